"""Damaged tables: each is refused with one line that names the file and the row.

Never is a byte read from outside the table's folder.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import evaluate, plan, subsample
from stages.export import export
from stages.shared.errors import BadInput
from stages.shared.manifests import read_classes, read_manifest, write_classes
from stages.shared.tables import Table, encode_png, write_table

HEADER = "key,shard,offset,size,label"


def picture(value: int) -> bytes:
    return encode_png(Image.new("RGB", (4, 4), (value, 0, 0)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A table of three images, labels 0 to 2, beside a secret."""
    (tmp_path / "secret").write_bytes(picture(99))
    write_table(tmp_path / "table", map(picture, range(3)), pd.DataFrame({"label": range(3)}))
    return tmp_path / "table"


def spoil(folder: Path, row: int, column: str, value: object) -> None:
    """Write another value into one cell of the manifest."""
    rows = pd.read_csv(folder / "manifest.csv", dtype=str)
    rows.loc[row, column] = str(value)
    rows.to_csv(folder / "manifest.csv", index=False)


def refusal(function, *arguments) -> str:
    with pytest.raises(BadInput) as error:
        function(*arguments)

    line = str(error.value)
    assert line.isprintable()
    assert len(line) < 400 + len(str(arguments[0]))

    return line


def read_all(folder: Path) -> None:
    table = Table(folder)
    for row in range(len(table)):
        table.image(row)


NOT_WHOLE = [
    "x", "", "1.5", "nan", "NaN", "inf", "None", "0x10", "1e400", "9" * 400, "١x", "512 bytes",
    "512.0", "True", 2**64,
]  # fmt: skip


@pytest.mark.parametrize("value", NOT_WHOLE)
@pytest.mark.parametrize("column", ["offset", "size", "label"])
def test_a_cell_that_is_no_whole_number_is_named(folder, column, value):
    spoil(folder, 1, column, value)
    line = refusal(read_manifest, folder)
    assert line.startswith(f"{folder}/manifest.csv: line 3: {column} '{str(value)[:5]}")
    assert "is no whole number" in line


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("offset", -1), ("offset", 2**53 + 1), ("offset", 2**63 - 1), ("offset", 2**63),
        ("size", 0), ("size", -600), ("size", 2**62),
        ("label", -1), ("label", 2**60), ("label", -(2**63)),
    ],
)  # fmt: skip
def test_a_number_out_of_range_is_named_with_its_line(folder, column, value):
    spoil(folder, 1, column, value)
    line = refusal(read_manifest, folder)
    assert f"manifest.csv: line 3: {column} '{value}' is not within" in line


@pytest.mark.parametrize(
    "shard",
    [
        "../secret", "/etc/passwd", "../../etc/passwd", "", ".", "..",
        "shard-00000.tar/../../secret", "shard-0.tar", "shard-00000.tar\0", "shard-00000.tar ",
        "SHARD-00000.TAR", "manifest.csv", "C:\\x", "~/x", "x" * 300,
    ],
)  # fmt: skip
def test_a_shard_that_is_a_path_or_another_file_is_refused(folder, shard):
    spoil(folder, 1, "shard", shard)
    line = refusal(read_manifest, folder)
    assert "manifest.csv: line 3: shard '" in line
    assert "is no shard of this table" in line


def test_an_image_behind_the_shards_end_is_refused(folder):
    end = (folder / "shard-00000.tar").stat().st_size
    spoil(folder, 2, "offset", end)
    assert f"shard-00000.tar: truncated, {end} bytes of at least" in refusal(Table, folder)


@pytest.mark.parametrize(("offset", "size"), [(0, 512), (513, 60), (512, 1), (1100, 20)])
def test_an_offset_without_an_image_is_named_by_shard_and_key(folder, offset, size):
    spoil(folder, 1, "offset", offset)
    spoil(folder, 1, "size", size)

    line = refusal(read_all, folder)

    assert line.startswith(f"{folder}/shard-00000.tar: holds no image for key '00000001' (")
    assert line.endswith("get it back with `dvc checkout -f`")


def test_a_shard_of_zeros_is_named(folder):
    shard = folder / "shard-00000.tar"
    shard.write_bytes(bytes(shard.stat().st_size))
    assert "shard-00000.tar: holds no image for key '00000000'" in refusal(read_all, folder)


def test_a_shard_that_is_a_folder_is_refused(folder):
    (folder / "shard-00000.tar").unlink()
    (folder / "shard-00000.tar").mkdir()
    assert "shard-00000.tar: truncated, 0 bytes" in refusal(Table, folder)


def test_a_linked_shard_is_read_as_dvc_may_link_its_cache(folder):
    (folder / "shard-00000.tar").rename(folder.parent / "cached")
    (folder / "shard-00000.tar").symlink_to(folder.parent / "cached")
    assert np.asarray(Table(folder).image(2))[0, 0].tolist() == [2, 0, 0]


GOOD = "00000000,shard-00000.tar,512,75,0\n"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "cannot be read (No columns to parse from file)"),
        (b"\n\n\n", "cannot be read (No columns to parse from file)"),
        (bytes(1000), "column 'key' is missing"),
        (b"\x89PNG\r\n\x1a\n\0\0\xff", "cannot be read"),
        (b"\xff\xfe" + f"{HEADER}\n{GOOD}".encode("utf-16-le"), "cannot be read"),
        (f"{HEADER[:-6]}\n".encode(), "column 'label' is missing"),
        (f"{HEADER.replace('shard,', '')}\n".encode(), "column 'shard' is missing"),
        (GOOD.encode(), "column 'key' is missing"),
        (f"{HEADER}\n{GOOD[:-1]},7\n".encode(), "line 2 has more fields than the header"),
        (f"{HEADER}\n{GOOD}{GOOD[:-1]},7\n".encode(), "cannot be read"),
        (f"{HEADER}\n{GOOD}{GOOD}".encode(), "key '00000000' appears twice"),
        (
            f"{HEADER}\n{GOOD}00000001,shard-00000.tar,15".encode(),
            "line 3: size '' is no whole number",
        ),
        (f"{HEADER}\n{GOOD}0000".encode(), "line 3: shard '' is no shard of this table"),
        (f"{HEADER}\n{GOOD}\"00000001,shard".encode(), "cannot be read"),
        (f"{HEADER}\n{GOOD}<html>\n".encode(), "line 3: shard '' is no shard of this table"),
        (f"{HEADER},strength\n{GOOD[:-1]},nan\n".encode(), "line 2: strength 'nan' is no number"),
        (f"{HEADER},score\n{GOOD[:-1]},inf\n".encode(), "line 2: score 'inf' is no finite number"),
        (f"{HEADER},score\n{GOOD[:-1]},{'9' * 400}\n".encode(), "line 2: score '9999"),
        (
            f"{HEADER},source_label\n{GOOD[:-1]},-2\n".encode(),
            "line 2: source_label '-2' is not within -1 and",
        ),
    ],
)  # fmt: skip
def test_a_file_that_is_no_manifest_is_refused_for_what_is_wrong(folder, content, line):
    (folder / "manifest.csv").write_bytes(content)
    message = refusal(read_manifest, folder)
    assert message.startswith(f"{folder}/manifest.csv: ")
    assert line in message


@pytest.mark.parametrize(
    "change", [lambda text: text.replace(b"\n", b"\r\n"), lambda text: b"\xef\xbb\xbf" + text]
)
def test_line_ends_and_byte_order_marks_of_other_systems_are_read(folder, change):
    before = read_manifest(folder)
    path = folder / "manifest.csv"
    path.write_bytes(change(path.read_bytes()))
    assert read_manifest(folder).equals(before)


CLASSES = "index,name,metaclass,token\n0,jay,bird,<class-0000>\n1,kite,bird,<class-0001>\n"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"", "cannot be read"),
        (bytes(100), "columns must be index, name, metaclass, token"),
        (b"index,name,metaclass,token\n", "lists no class"),
        (CLASSES.replace(",token", "").encode(), "columns must be"),
        (CLASSES.replace("token", "token,more").encode(), "columns must be"),
        (
            CLASSES.replace("1,kite", "2,kite").encode(),
            "line 3: must be class 1 with token <class-0001>",
        ),
        (CLASSES.replace("0,jay", "-1,jay").encode(), "line 2: must be class 0"),
        (CLASSES.replace("0,jay", "x,jay").encode(), "line 2: must be class 0"),
        (CLASSES.replace("0,jay", ",jay").encode(), "line 2: must be class 0"),
        (
            CLASSES.replace("<class-0001>", "../../x").encode(),
            "line 3: must be class 1 with token <class-0001>",
        ),
        (CLASSES.replace("kite", "jay").encode(), "class 'jay' appears twice"),
        (CLASSES[:-16].encode(), "line 3: must be class 1"),
        (CLASSES.replace("kite", "k\xff").encode("latin-1"), "cannot be read"),
        (CLASSES.replace(",jay", ",a,b").encode(), "line 2: must be class 0"),
    ],
)  # fmt: skip
def test_a_file_that_lists_no_classes_is_refused_for_what_is_wrong(tmp_path, content, line):
    (tmp_path / "classes.csv").write_bytes(content)
    message = refusal(read_classes, tmp_path)
    assert message.startswith(f"{tmp_path}/classes.csv: ")
    assert line in message


@pytest.mark.parametrize(
    "change", [lambda text: text.replace("\n", "\r\n"), lambda text: "\ufeff" + text]
)
def test_classes_with_line_ends_and_byte_order_marks_of_other_systems_are_read(tmp_path, change):
    (tmp_path / "classes.csv").write_text(change(CLASSES), newline="")
    assert read_classes(tmp_path)["name"].tolist() == ["jay", "kite"]


def test_a_label_without_a_class_is_named(folder):
    line = refusal(lambda folder: read_manifest(folder, classes=2), folder)
    assert "manifest.csv: line 4: label '2' is not within 0 and 1" in line


@pytest.mark.parametrize(
    ("stage", "table"),
    [(subsample, "download/train"), (plan, "subsample"), (evaluate, "subsample")],
)
def test_a_stage_refuses_a_label_without_a_class(tmp_path, monkeypatch, stage, table):
    monkeypatch.chdir(tmp_path)
    rows = pd.DataFrame({"label": [0, 1, 2]})
    write_table(tmp_path / "data" / table, map(picture, range(3)), rows)
    (tmp_path / "data/download").mkdir(exist_ok=True)
    write_classes(tmp_path / "data/download", ["jay", "kite"], "bird")
    monkeypatch.setattr(stage, "load", lambda params: None)

    line = refusal(lambda _: stage.main(), "")

    assert f"data/{table}/manifest.csv: line 4: label '2' is not within 0 and 1" in line


def test_export_refuses_a_label_without_a_class_and_bytes_that_are_no_image(tmp_path):
    table = tmp_path / "data/download/train"
    write_table(table, map(picture, range(3)), pd.DataFrame({"label": [0, 1, 2]}))
    write_classes(tmp_path / "data/download", ["jay", "kite"], "bird")
    assert "label 2 has no name in classes.csv" in refusal(export, table, tmp_path / "out")

    write_classes(tmp_path / "data/download", ["jay", "kite", "owl"], "bird")
    spoil(table, 0, "offset", 0)
    line = refusal(export, table, tmp_path / "out")
    assert "holds no image for key '00000000' (no png, jpg or webp)" in line
