"""Image tables: what is written is read back, by Python's own tarfile too, and damage is named."""

import tarfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.shared.errors import BadInput
from stages.shared.manifests import read_manifest
from stages.shared.tables import Table, encode_png, write_table


def picture(value: int) -> bytes:
    return encode_png(Image.new("RGB", (4, 4), (value % 256, value // 256, 0)))


def some_table(folder: Path, count: int = 3) -> Table:
    write_table(folder, map(picture, range(count)), pd.DataFrame({"label": range(count)}))
    return Table(folder)


def test_tarfile_finds_the_same_bytes_as_offset_and_size(tmp_path):
    shards = ["shard-00000.tar", "shard-00001.tar"]
    table = some_table(tmp_path, 1002)
    assert table.rows["shard"].unique().tolist() == shards
    assert table.rows["key"].tolist() == [f"{row:08d}" for row in range(1002)]

    for shard in shards:
        with tarfile.open(tmp_path / shard) as tar:
            keys = [name.split(".")[0] for name in tar.getnames()]
            assert keys == sorted(keys)
            tar.extractall(tmp_path / "out", filter="data")
    extracted = [path.read_bytes() for path in sorted((tmp_path / "out").glob("*.png"))]
    labels = [path.read_text() for path in sorted((tmp_path / "out").glob("*.cls"))]

    assert extracted == [picture(row) for row in range(1002)]
    assert extracted == [table.read(row) for row in range(1002)]
    assert labels == [str(row) for row in range(1002)]


@pytest.fixture
def shards(tmp_path) -> list[str]:
    some_table(tmp_path, 1002)
    return [str(path) for path in sorted(tmp_path.glob("shard-*.tar"))]


def test_webdataset_yields_images_with_their_labels(shards):
    webdataset = pytest.importorskip("webdataset")

    rows = webdataset.WebDataset(shards, shardshuffle=False).decode("pil").to_tuple("png", "cls")

    found = [(np.asarray(image)[0, 0, 0].item(), label) for image, label in rows]
    assert found == [(row % 256, row) for row in range(1002)]


def test_hugging_face_loads_images_with_their_labels(shards, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")

    rows = datasets.load_dataset(
        "webdataset", data_files={"train": shards}, split="train", cache_dir=tmp_path / "cache"
    )

    assert rows["cls"][:] == list(range(1002))
    assert [np.asarray(rows[row]["png"])[0, 0, 0] for row in (0, 2, 1001)] == [0, 2, 1001 % 256]


def test_an_image_is_decoded(tmp_path):
    assert np.asarray(some_table(tmp_path).image(2))[0, 0].tolist() == [2, 0, 0]


def test_equal_content_is_equal_bytes(tmp_path):
    for name in ("one", "two"):
        some_table(tmp_path / name)

    for file in ("shard-00000.tar", "manifest.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_a_file_in_the_tar_is_called_by_what_it_is(tmp_path):
    contents = []
    for encoding in ("JPEG", "WEBP", "PNG"):
        buffer = BytesIO()
        Image.new("RGB", (4, 4)).save(buffer, encoding)
        contents.append(buffer.getvalue())

    write_table(tmp_path, contents, pd.DataFrame({"label": [0, 0, 0]}))

    with tarfile.open(tmp_path / "shard-00000.tar") as tar:
        names = ["00000000.jpg", "00000001.webp", "00000002.png"]
        assert tar.getnames()[::2] == names
        assert tar.getnames()[1::2] == [f"{Path(name).stem}.cls" for name in names]


def test_own_columns_follow_the_five(tmp_path):
    write_table(tmp_path, [picture(0)], pd.DataFrame({"group": ["NA"], "label": [7]}))
    rows = read_manifest(tmp_path, ["group"])

    assert list(rows.columns) == ["key", "shard", "offset", "size", "label", "group"]
    assert rows[["group", "label"]].to_numpy().tolist() == [["NA", 7]]


def test_an_empty_table_has_a_header_and_no_rows(tmp_path):
    write_table(tmp_path, [], pd.DataFrame({"label": [], "group": []}))

    assert (tmp_path / "manifest.csv").read_text() == "key,shard,offset,size,label,group\n"
    assert len(Table(tmp_path)) == 0


def test_a_selection_of_rows_reads_its_own_images(tmp_path):
    rows = some_table(tmp_path).rows.iloc[[2, 0]]
    selection = Table(tmp_path, rows)

    assert [selection.read(0), selection.read(1)] == [picture(2), picture(0)]


def test_a_truncated_shard_is_named(tmp_path):
    some_table(tmp_path)
    shard = tmp_path / "shard-00000.tar"
    shard.write_bytes(shard.read_bytes()[:1600])

    reason = r"shard-00000\.tar: truncated, 1600 bytes of at least \d+; get it back with"
    with pytest.raises(BadInput, match=reason):
        Table(tmp_path)


def test_a_missing_shard_is_named(tmp_path):
    some_table(tmp_path)
    (tmp_path / "shard-00000.tar").unlink()

    with pytest.raises(BadInput, match=r"shard-00000\.tar: truncated, 0 bytes"):
        Table(tmp_path)
