"""What changes under a running stage ends it, and is not recorded; what does not, does no harm."""

import os
import shutil
import time
from pathlib import Path

import pytest
import yaml

from stages.shared.errors import BadInput
from stages.shared.running import inputs
from stages.shared.running.inputs import read_stage, run
from stages.shared.running.work import publish
from stages.shared.watching.seconds import read_seconds

ENTRY = {
    "cmd": "make",
    "deps": ["code.py", "${data.path}", "base"],
    "params": ["seed", "arms.${key}.p"],
    "outs": ["made/${key}"],
    "metrics": [{"made/${key}.json": {"cache": False}}],
}
PARAMS = {"seed": 3, "arms": {"own": {"p": 0.5}, "other": {"p": 0.1}}, "data": {"path": "photos"}}


class ProcessEnd(BaseException):
    """Stands for the end of the process."""


def end(status: int) -> None:
    assert status == 0
    raise ProcessEnd


@pytest.fixture(autouse=True)
def workspace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(inputs.STAGE, "make@own")
    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(inputs, "_noted", None)

    pipeline = {"stages": {"make": {"foreach": "${arms}", "do": ENTRY}}}
    Path("dvc.yaml").write_text(yaml.safe_dump(pipeline))
    write_params(PARAMS)
    for name in ("code.py", "photos/cat/0.jpg", "base/one", "unread"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("1")
    monkeypatch.setattr(inputs, "LOADED_AT", time.time_ns() + 10**9)


def write_params(tree: dict) -> None:
    Path("params.yaml").write_text(yaml.safe_dump(tree))


def make(change=lambda: None):
    """A stage that changes something halfway; it writes one output, and publishes the other."""

    def main() -> None:
        Path("made").mkdir(exist_ok=True)
        Path("made/own.json").write_text("{}")
        Path("work").mkdir()
        Path("work/result").write_text("1")
        change()
        publish(Path("work"), Path("made/own"))

    return main


def write(path: str, text: str = "2") -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def change_params(**values) -> None:
    write_params(PARAMS | values)


def touch_back() -> None:
    """Another content of equal size under the old time."""
    found = os.stat("base/one")
    write("base/one")
    os.utime("base/one", ns=(found.st_atime_ns, found.st_mtime_ns))


CHANGES = {
    "params.yaml: seed was 3 and has become 4": lambda: change_params(seed=4),
    "params.yaml: arms.own.p was 0.5 and has become 'is not there'": (
        lambda: change_params(arms={"other": {}})
    ),
    "code.py: has changed": lambda: write("code.py"),
    "base/one: has changed": touch_back,
    "base/one: has gone": lambda: Path("base/one").unlink(),
    "base/two/deep: has appeared": lambda: write("base/two/deep"),
    "photos/cat/1.jpg: has appeared": lambda: write("photos/cat/1.jpg"),
}


@pytest.mark.parametrize("line", CHANGES)
def test_a_changed_input_is_named_and_nothing_is_published(line):
    with pytest.raises(BadInput) as error:
        run(make(CHANGES[line]))

    assert str(error.value) == (
        f"{line} while make@own was running: its result is of neither, and is not recorded; "
        "run again"
    )
    assert not Path("made/own").exists()
    assert Path("work/result").exists(), "the work is lost"


@pytest.mark.parametrize("line", CHANGES)
def test_what_was_written_before_a_change_is_taken_back(line):
    def main() -> None:
        make()()
        CHANGES[line]()

    with pytest.raises(BadInput, match="is not recorded"):
        run(main)
    assert list(Path("made").iterdir()) == []


HARMLESS = {
    "another arm's parameter": lambda: change_params(arms={"own": {"p": 0.5}, "other": {"p": 0.9}}),
    "a comment": lambda: write("params.yaml", f"# seen\n{yaml.safe_dump(PARAMS)}"),
    "a file beside": lambda: write("unread"),
    "a touch": lambda: Path("base/one").touch(),
    "the same bytes anew": lambda: (Path("base/one").unlink(), write("base/one", "1")),
    "python's cache": lambda: write("base/__pycache__/code.pyc"),
}


@pytest.mark.parametrize("change", HARMLESS)
def test_what_the_stage_does_not_read_does_no_harm(change):
    with pytest.raises(ProcessEnd):
        run(make(HARMLESS[change]))
    assert Path("made/own/result").read_text() == "1"


def test_what_it_took_is_noted_of_a_result_alone():
    with pytest.raises(BadInput):
        run(make(lambda: write("code.py")))
    assert read_seconds(["own"]) == {}

    with pytest.raises(ProcessEnd):
        run(lambda: None)
    assert list(read_seconds(["own"])) == ["make@own"]


def test_files_beyond_what_is_hashed_go_by_their_times(monkeypatch):
    monkeypatch.setattr(inputs, "HASHED", 3)
    write("base/large", "1" * 100)

    with pytest.raises(BadInput, match=r"^base/large: has changed while"):
        run(make(lambda: Path("base/large").touch()))


def link(path: str) -> None:
    """Another name for the same file, as a parallel checkout by hard links gives it."""
    os.link(path, "linked")


def link_anew(path: str) -> None:
    """The same file by way of a copy, as `dvc checkout` puts one in its place."""
    shutil.copy2(path, "copy")
    os.replace("copy", path)


@pytest.mark.parametrize("change", [link, link_anew])
def test_a_link_to_a_file_beyond_what_is_hashed_does_no_harm(monkeypatch, change):
    monkeypatch.setattr(inputs, "HASHED", 3)
    write("base/large", "1" * 100)

    with pytest.raises(ProcessEnd):
        run(make(lambda: change("base/large")))
    assert Path("made/own/result").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="/dev/full is Linux's")
def test_a_disk_that_is_full_when_all_is_done_does_not_spoil_the_result():
    Path(".work/seconds").mkdir(parents=True)
    Path(".work/seconds/make@own").symlink_to("/dev/full")

    with pytest.raises(ProcessEnd):
        run(make())
    assert Path("made/own/result").exists()


def test_code_that_was_written_while_it_was_loaded_is_refused(monkeypatch):
    monkeypatch.setattr(inputs, "LOADED_AT", time.time_ns() - 10**12)
    with pytest.raises(BadInput, match=r"^code\.py: was written while make@own was loading it"):
        run(make())
    assert not Path("made").exists()


def test_without_dvc_nothing_is_compared(monkeypatch):
    monkeypatch.delenv(inputs.STAGE)
    run(make(lambda: write("code.py")))
    assert Path("made/own/result").read_text() == "1"


def test_an_entry_s_templates_are_filled_in():
    stage = read_stage("make@own")
    assert stage.deps == [Path("code.py"), Path("photos"), Path("base")]
    assert stage.leaves == ["seed", "arms.own.p"]
    assert stage.outs == [Path("made/own"), Path("made/own.json")]


def test_noting_and_comparing_six_thousand_shards_takes_less_than_three_seconds():
    for number in range(6000):
        write(f"base/shard-{number:05d}.tar", "1" * 5000)

    began = time.monotonic()
    with pytest.raises(ProcessEnd):
        run(make())
    assert time.monotonic() - began < 3
