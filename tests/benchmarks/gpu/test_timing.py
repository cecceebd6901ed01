"""Turns, medians and ratios by hand on a clock that the work moves; errors; the budget."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.gpu import timing
from benchmarks.gpu.bench import Bench, Group
from benchmarks.gpu.report import Report, run_groups
from benchmarks.gpu.sizes import TINY
from benchmarks.gpu.timing import SKIPPED, Budget, Contender, race


class Clock:
    """Time that passes only when work is done."""

    def __init__(self):
        self.now = 0.0
        self.log: list[str] = []

    def work(self, name: str, *seconds: float) -> Callable[[], None]:
        """Work that takes the next of the seconds at each call."""
        durations = iter(seconds)

        def work() -> None:
            self.log.append(name)
            self.now += next(durations)

        return work


@pytest.fixture
def clock(monkeypatch) -> Clock:
    clock = Clock()
    tells = SimpleNamespace(perf_counter=lambda: clock.now, monotonic=lambda: clock.now)
    monkeypatch.setattr(timing, "time", tells)
    return clock


def contender(run: Callable[[], object], units: int, *rivals: str) -> Contender:
    return Contender(run, units, prepare=lambda: None, rivals=rivals)


def fail() -> None:
    raise ValueError("no\nmemory")


def test_turns_alternate_and_the_median_counts(clock):
    slow = clock.work("slow", 9, 5, 4, 8)
    fast = clock.work("fast", 9, 1, 3, 2)
    makers = {"slow": lambda: contender(slow, 10), "fast": lambda: contender(fast, 8, "slow")}
    rows = list(race(makers, 3, Budget(1000)))

    assert clock.log == ["slow", "fast"] * 4  # the first is the warm-up
    assert [row["per_second"] for row in rows] == [2, 4]  # 10 in 5 s, 8 in 2 s
    assert rows[1]["times"] == {"slow": 2}
    assert rows[0]["seconds"] == [5, 4, 8]
    assert rows[0]["first_seconds"] == 9


def test_an_error_ends_its_case_alone(clock):
    makers = {
        "cannot be made": fail,
        "cannot run": lambda: contender(fail, 1),
        "runs": lambda: contender(clock.work("runs", 1, 1), 3, "cannot run"),
    }
    unmade, broken, good = race(makers, 1, Budget(1000))

    assert unmade == {"case": "cannot be made", "error": "ValueError: no memory"}
    assert broken == {"case": "cannot run", "error": "ValueError: no memory"}
    assert good["per_second"] == 3
    assert good["times"] == {}


def test_nothing_begins_after_the_budget(clock):
    """The first warm-up takes 10 s of 8: no second case, and of three rounds one."""
    first = clock.work("first", 10, 1, 1, 1)
    makers = {"first": lambda: contender(first, 1), "second": fail}
    rows = list(race(makers, 3, Budget(8)))

    assert rows[0]["seconds"] == [1]
    assert rows[1] == {"case": "second", **SKIPPED}


def test_rivals_may_have_been_timed_before(clock):
    makers = {"late": lambda: contender(clock.work("late", 1, 1), 6, "early")}
    (row,) = race(makers, 1, Budget(1000), {"early": 4.0})
    assert row["times"] == {"early": 1.5}


def groups_of_three(clock: Clock) -> list[Group]:
    """One that fails in its midst, one that goes on, and one for which no time is left."""

    def breaks(_bench: Bench):
        yield {"case": "a", "same": True}
        raise RuntimeError("lost the GPU")

    def takes_long(_bench: Bench):
        clock.now += 100
        yield {"case": "c", "same": False, "largest_difference": 2}

    return [
        Group("one", ("a", "b"), breaks),
        Group("two", ("c",), takes_long),
        Group("three", ("d", "e"), lambda _bench: iter([])),
    ]


def test_each_case_has_one_line_whatever_becomes_of_its_group(clock, tmp_path, capsys):
    report = Report(tmp_path / "card.json", {"device": "a card"})
    run_groups(groups_of_three(clock), Bench(TINY, Path(), Budget(50)), report)

    lost = "RuntimeError: lost the GPU"
    expected = [
        {"group": "one", "case": "a", "same": True},
        {"group": "one", "case": "b", "error": lost},
        {"group": "two", "case": "c", "same": False, "largest_difference": 2},
        {"group": "three", "case": "d", **SKIPPED},
        {"group": "three", "case": "e", **SKIPPED},
    ]
    printed = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert printed == expected
    written = json.loads((tmp_path / "card.json").read_text())
    assert written == {"machine": {"device": "a card"}, "cases": expected}

    assert report.table().splitlines()[2:] == [
        "| one | a |  |  |  | same bytes |",
        f"| one | b |  |  |  | {lost} |",
        "| two | c |  |  |  | differs by up to 2 |",
        "| three | d |  |  |  | skipped: the budget was spent |",
        "| three | e |  |  |  | skipped: the budget was spent |",
    ]


def test_the_file_is_whole_after_each_case(tmp_path, capsys):
    report = Report(tmp_path / "card.json", {})
    for count in (1, 2):
        report.add("group", {"case": str(count)})
        assert len(json.loads((tmp_path / "card.json").read_text())["cases"]) == count
