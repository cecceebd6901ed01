"""DVC's experiment queue: which experiments are finished, which wait, which failed.

An experiment's name ends with its fingerprint, by which it is found again, whatever table or commit
asked for it.
"""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import psutil
from dvc.repo import Repo

from experiments.commands import dvc, git

NAME = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/.+-(?P<fingerprint>[0-9a-f]{8})")
TASK = re.compile(r".+-(?P<fingerprint>[0-9a-f]{8})")
LOG_LINES = 15
RANK = ("Failed", "Success", "Queued", "Running")  # of several entries for one the last counts


class Experiment(NamedTuple):
    """What to run."""

    name: str
    fingerprint: str
    targets: tuple[str, ...]
    overrides: tuple[str, ...]


class Entry(NamedTuple):
    """An experiment in the queue; alive where a process is at work on it."""

    revision: str
    status: str
    alive: bool


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold Ctrl-C back until the block is done."""
    pressed: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: pressed.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)

    if pressed:
        raise KeyboardInterrupt


def finished() -> dict[str, str]:
    """The git refs of the finished experiments, by fingerprint; of several the newest."""
    options = ("--sort=creatordate", "--format=%(refname)")
    refs = git("for-each-ref", *options, "refs/exps").splitlines()
    matches = [match for ref in refs if (match := NAME.fullmatch(ref))]
    return {match["fingerprint"]: match[0] for match in matches}


def entries() -> dict[str, Entry]:
    """The queue's entries by fingerprint.

    `dvc queue status` says "Running" of a dead worker's experiment, too; `dvc exp show` names the
    process, but reads every commit for it: 40 seconds in this repository. So this function, and no
    other, asks DVC's own queue, which is no public part of DVC.
    """
    found: dict[str, Entry] = {}
    with Repo() as repo:
        queue = repo.experiments.celery_queue
        tasks = sorted(
            queue.status(), key=lambda task: (RANK.index(task["status"]), task["timestamp"])
        )
        for task in tasks:
            match = TASK.fullmatch(task["name"] or "")
            if match:
                process = queue.proc.get(task["rev"])
                running = process is not None and process.returncode is None
                alive = running and is_process(process.pid)
                found[match["fingerprint"]] = Entry(task["rev"], task["status"], alive)
    return found


def is_process(number: int) -> bool:
    """Whether the process exists and is DVC's, at work on an experiment.

    The number of a dead process is given away anew.
    """
    try:
        return "exec-run" in psutil.Process(number).cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def enqueue(experiment: Experiment, old: Entry | None) -> None:
    """Put an experiment at the queue's end, in place of its `old` entry, which failed."""
    changes = [word for override in experiment.overrides for word in ("-S", override)]

    with uninterrupted():
        if old:
            dvc("queue", "remove", old.revision)
        dvc("exp", "run", "--queue", "--name", experiment.name, *changes, *experiment.targets)


def start(jobs: int) -> None:
    """See to it that workers run; each ends itself when the queue is empty."""
    dvc("queue", "start", "--jobs", str(jobs))


def abandon(entry: Entry) -> None:
    """Mark as failed what a dead worker left as running."""
    dvc("queue", "kill", entry.revision, status=None)


def log_tail(entry: Entry) -> str:
    """The last lines that the experiment printed."""
    lines = dvc("queue", "logs", entry.revision, status=None).rstrip().splitlines()
    return "\n".join(lines[-LOG_LINES:])
