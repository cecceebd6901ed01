"""How two runs are compared, by hand-made folders and locks."""

import math
import os
from pathlib import Path

import pytest

from experiments.reproducing.differences import (
    Checkout,
    Difference,
    compare,
    count_bytes,
    judge,
    largest_difference,
    passes,
    render,
)

METRICS = {"metrics/score.json", "metrics/curve.csv", "metrics/page.html", "metrics/plots"}


def make(
    root: Path, name: str, files: dict[str, bytes], locked: dict[str, dict[str, str]]
) -> Checkout:
    """A run of files; `locked` holds the hashes by stage and output."""
    for path, content in files.items():
        (root / name / path).parent.mkdir(parents=True, exist_ok=True)
        (root / name / path).write_bytes(content)

    lock = {}
    for stage, outs in locked.items():
        lock[stage] = {"outs": [{"path": path, "md5": md5} for path, md5 in outs.items()]}

    return Checkout(name, root / name, lock)


def pair(
    root: Path, path: str, one: bytes, other: bytes, output: str | None = None
) -> list[Difference]:
    """What is found of a stage whose one output (default: the path) holds one file, in two runs."""
    runs = []
    for name, content in (("run", one), ("commit", other)):
        lock = {"stage": {output or path: content.hex()}}
        runs.append(make(root, name, {path: content}, lock))

    return compare(*runs, METRICS)["stage"]


def test_equal_files_are_bit_identical(tmp_path):
    found = pair(tmp_path, "data/weights.bin", b"abc", b"abc")
    assert found == []
    assert judge(found, 0.0) == "bit-identical"


def test_the_differing_bytes_of_a_file_are_counted(tmp_path):
    found = pair(tmp_path, "data/weights/a.bin", b"abcdef", b"xbcdyf--", "data/weights")
    assert found == [Difference("data/weights/a.bin", 4, 8, None)]
    assert judge(found, 0.0) == "differs"


def test_content_counts_not_size_and_time(tmp_path):
    lock = {"stage": {"data/a": "1"}}
    runs = [make(tmp_path, name, {"data/a": name.encode()}, lock) for name in ("one", "two")]
    for run in runs:
        os.utime(run.folder / "data/a", (0, 0))

    assert compare(*runs, METRICS)["stage"] == [Difference("data/a", 3, 3, None)]


@pytest.mark.parametrize(
    ("one", "other", "count"),
    [(b"", b"", 0), (b"", b"abc", 3), (b"abc", b"abd", 1), (b"\xff\x00", b"\x00\xff", 2)],
)
def test_bytes_differ_by_offset(one, other, count):
    assert count_bytes(one, other) == count_bytes(other, one) == count


def test_a_file_that_one_side_lacks_is_named(tmp_path):
    lock = {"stage": {"data/table": "1"}}
    one = make(tmp_path, "run", {"data/table/a": b"1", "data/table/b": b"2"}, lock)
    other = make(tmp_path, "commit", {"data/table/a": b"1"}, {"stage": {"data/table": "2"}})
    assert compare(one, other, METRICS) == {
        "stage": [Difference("data/table/b", "only the run has it", 0, None)]
    }


@pytest.mark.parametrize(
    ("md5", "expected"), [("1", []), ("2", [Difference("data/a", "only hashes known", 0, None)])]
)
def test_an_output_that_is_not_at_hand_is_judged_by_its_hash(md5, expected, tmp_path):
    one = make(tmp_path, "run", {"data/a": b"1"}, {"stage": {"data/a": "1"}})
    other = make(tmp_path, "commit", {}, {"stage": {"data/a": md5}})
    assert compare(one, other, METRICS) == {"stage": expected}


def test_a_metric_that_was_edited_by_hand_is_found_though_the_hashes_agree(tmp_path):
    lock = {"stage": {"metrics/score.json": "1"}}
    one = make(tmp_path, "run", {"metrics/score.json": b'{"top1": 70.2}'}, lock)
    other = make(tmp_path, "commit", {"metrics/score.json": b'{"top1": 80.2}'}, lock)
    assert compare(one, other, METRICS)["stage"] == [Difference("metrics/score.json", 1, 14, 10.0)]


def test_a_lock_that_is_not_of_its_files_is_found(tmp_path):
    one = make(tmp_path, "run", {"data/a": b"1"}, {"stage": {"data/a": "1"}})
    other = make(tmp_path, "commit", {"data/a": b"1"}, {"stage": {"data/a": "2"}})
    found = compare(one, other, METRICS)["stage"]
    assert [judge(found, tolerance) for tolerance in (0.0, 5.0)] == ["differs", "differs"]


def test_a_stage_of_one_side_alone_differs_whatever_the_tolerance(tmp_path):
    one = make(tmp_path, "run", {}, {"new": {"data/new": "1"}})
    found = compare(one, make(tmp_path, "commit", {}, {}), METRICS)["new"]
    assert found == [Difference("data/new", "only the run has it", 0, math.inf)]
    assert judge(found, 5.0) == "differs"


@pytest.mark.parametrize(
    ("name", "one", "other", "largest"),
    [
        ("a.json", '{"top1": 7.2, "all": [{"few": 5}]}', '{"all": [{"few": 4}], "top1": 7.1}', 1),
        ("a.json", '{"top1": 70.2, "arms": [null]}', '{"arms": [null], "top1": 70.1}', 0.1),
        ("a.json", '{"top1": 1}', '{"top1": null}', math.inf),
        ("a.json", '{"arm": "cutmix"}', '{"arm": "mixup"}', math.inf),
        ("a.json", '{"top1": 1}', '{"top1": 1, "few": 2}', math.inf),
        ("a.json", '{"top1": 1}', '{"top1": NaN}', math.inf),
        ("a.csv", "arm,loss\na,1.5\nb,2\n", "arm,loss\na,1.25\nb,2.0\n", 0.25),
        ("a.csv", "arm,loss\na,1.5\n", "arm,loss\nb,1.5\n", math.inf),
        ("a.csv", "arm,loss\na,1.5\n", "arm,loss\na,1.5\na,1\n", math.inf),
    ],
)
def test_the_largest_difference_of_any_number(name, one, other, largest, tmp_path):
    for side, text in (("one", one), ("other", other)):
        (tmp_path / side).mkdir()
        (tmp_path / side / name).write_text(text)

    assert largest_difference(tmp_path / "one" / name, tmp_path / "other" / name) == largest


@pytest.mark.parametrize(
    ("tolerance", "verdict"), [(0.0, "differs"), (0.05, "differs"), (0.1, "within tolerance")]
)
def test_a_metric_is_judged_by_the_tolerance(tolerance, verdict, tmp_path):
    found = pair(tmp_path, "metrics/plots/a.csv", b"loss\n70.2\n", b"loss\n70.1\n", "metrics/plots")
    assert judge(found, tolerance) == verdict
    assert passes({"stage": found}, tolerance) == (verdict != "differs")


@pytest.mark.parametrize(
    ("tolerance", "verdict"), [(0.0, "differs"), (0.1, "differs (no numbers)")]
)
@pytest.mark.parametrize("path", ["data/filter.csv", "metrics/page.html"])
def test_what_is_no_table_of_metrics_counts_without_a_tolerance_alone(
    tolerance, verdict, path, tmp_path
):
    found = pair(tmp_path, path, b"a\n1\n", b"a\n9\n")
    assert judge(found, tolerance) == verdict
    assert passes({"stage": found}, tolerance) == (verdict != "differs")


def test_the_table_has_a_line_for_each_stage_and_names_the_first_files():
    many = [Difference(f"data/shard-{n}.tar", 1200, 5000, None) for n in range(6)]
    score = Difference("metrics/score.json", 1, 14, 0.25)
    found = {"draw": [], "train": many, "evaluate": [score]}

    shown = "; ".join(f"data/shard-{n}.tar: 1,200 of 5,000 bytes" for n in range(4))
    assert render(found, 0.0).splitlines()[2:] == [
        "| draw | bit-identical |  |",
        f"| train | differs | {shown}; and 2 more |",
        "| evaluate | differs | metrics/score.json: 1 of 14 bytes, numbers by up to 0.25 |",
    ]
