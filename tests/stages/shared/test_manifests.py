"""Manifests and classes: what is written is read back, and what is missing or odd is named."""

import pandas as pd
import pytest

from stages.shared.errors import BadInput
from stages.shared.files import write_csv
from stages.shared.manifests import read_classes, read_manifest, write_classes

ODD_NAMES = [
    "plain", "golden retriever", "a_b", "AC/DC", "back\\slash", 'say "hi"', "it's", "Grünspecht 鳥",
    "a, b", " lead", "trail ", "NA", "null", "nan", "1.0", "007", "#1", "=2", "True",
]  # fmt: skip
ROW = {"key": "00000000", "shard": "shard-00000.tar", "offset": 512, "size": 1, "label": 0}


def test_a_missing_manifest_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"manifest\.csv: there is no such table; run `dvc repro`"):
        read_manifest(tmp_path)


def test_a_key_that_appears_twice_is_named(tmp_path):
    rows = pd.DataFrame([ROW, ROW | {"key": "00000001"}, ROW | {"key": "00000001"}])
    write_csv(tmp_path / "manifest.csv", rows)

    with pytest.raises(BadInput, match=r"manifest\.csv: key '00000001' appears twice"):
        read_manifest(tmp_path)


def test_a_missing_column_is_named(tmp_path):
    write_csv(tmp_path / "manifest.csv", pd.DataFrame([ROW]))

    with pytest.raises(BadInput, match="column 'score' is missing"):
        read_manifest(tmp_path, ["score"])


def test_class_names_come_back_letter_by_letter(tmp_path):
    write_classes(tmp_path, ODD_NAMES, "thing, any")
    classes = read_classes(tmp_path)

    assert classes["name"].tolist() == ODD_NAMES
    assert classes["index"].tolist() == list(range(len(ODD_NAMES)))
    assert set(classes["metaclass"]) == {"thing, any"}
    assert classes["token"].iloc[[0, 11]].tolist() == ["<class-0000>", "<class-0011>"]


def test_classes_with_other_columns_are_refused(tmp_path):
    (tmp_path / "classes.csv").write_text("index,name\n0,a\n")

    reason = r"classes\.csv: columns must be index, name, metaclass, token"
    with pytest.raises(BadInput, match=reason):
        read_classes(tmp_path)
