"""Where nobody watches a terminal, progress is a line now and then."""

import re
import time

import pytest

from stages.shared.watching import progress
from stages.shared.watching.progress import Progress


@pytest.fixture(autouse=True)
def short(monkeypatch):
    """Minutes are tenths of a second here."""
    monkeypatch.setattr(progress, "SECONDS", 0.1)
    monkeypatch.setattr(progress, "SHORT", 0.1)


def lines(text: str) -> list[str]:
    assert "\r" not in text
    assert text.endswith("\n") or not text
    return text.splitlines()


def test_lines_have_done_rate_and_time_left_and_the_last_one_the_time_it_took(capsys):
    for _ in Progress(range(6), desc="finetune", unit="step"):
        time.sleep(0.05)

    *under_way, last = lines(capsys.readouterr().err)

    assert under_way
    for line in under_way:
        assert re.fullmatch(r"finetune: \d of 6, [\d.]+step/s, 00:0\d left", line)
    assert last == "finetune: 6 steps in 00:00"


def test_before_the_first_is_done_there_is_no_rate(capsys):
    with Progress(total=3, desc="run", unit="experiment") as bar:
        time.sleep(0.15)
        bar.set_postfix_str("row")

    first, *_ = lines(capsys.readouterr().err)
    assert first == "run: 0 of 3"


def test_what_is_soon_done_says_nothing(capsys, monkeypatch):
    monkeypatch.setattr(progress, "SHORT", 10)

    for _ in Progress(range(3), desc="decode"):
        pass

    assert lines(capsys.readouterr().err) == []


def test_a_changing_note_gives_no_line_of_its_own(capsys):
    with Progress(total=10, desc="run") as bar:
        for number in range(10):
            bar.set_postfix_str(f"row {number}")

    assert lines(capsys.readouterr().err) == []


def test_without_a_total_nothing_is_said_of_what_is_left(capsys):
    with Progress(desc="fetch", unit="B", unit_scale=True) as bar:
        for _ in range(3):
            time.sleep(0.06)
            bar.update(1000)

    first, *_ = lines(capsys.readouterr().err)
    assert re.fullmatch(r"fetch: [\d.]+kB?, [\d.]+kB/s", first)


def test_a_terminal_has_tqdms_bar(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)

    for _ in Progress(range(3), desc="decode"):
        pass

    assert "\rdecode: 100%" in capsys.readouterr().err
