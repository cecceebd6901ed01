"""The processes that tests start, and whatever these start: none outlives its test module.

A child is known by an environment variable that it inherits. DVC's queue workers are daemons, in a
session of their own, so neither a parent's number nor a process group would find them.
"""

import os
import signal
from contextlib import suppress

import psutil

VARIABLE = "TESTS_OF_DIFFMIX"  # a child has it as <run of pytest>/<worker>
MAY_BE_IGNORED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
PATIENCE = 5.0  # seconds between asking a process to end and ending it


def enter_run() -> tuple[str, str]:
    """Name this process's children, and give them signals that work; returns the two names."""
    run = os.environ.get(VARIABLE, "").partition("/")[0] or str(os.getpid())
    worker = os.environ.get("PYTEST_XDIST_WORKER", "main")
    os.environ[VARIABLE] = f"{run}/{worker}"

    # Under nohup, and in a shell's background, signals are ignored, and children inherit that: they
    # would never see the Ctrl-C that a test sends. A handler that does nothing is not inherited.
    for number in MAY_BE_IGNORED:
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)

    return run, worker


def end_children(run: str, worker: str) -> None:
    """End all that tests of a worker have left; of several, by what their names begin with."""
    left = find_children(run, worker)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    psutil.wait_procs(left, timeout=PATIENCE)

    # those that do not listen, and those that were started in the meantime
    for process in find_children(run, worker):
        with suppress(psutil.NoSuchProcess):
            process.kill()


def find_children(run: str, worker: str) -> list[psutil.Process]:
    """The processes that carry the names; this one is not among them."""
    found = []
    for process in psutil.process_iter():
        try:
            names = process.environ().get(VARIABLE, "")
        except psutil.Error:  # it has ended, or is another user's
            continue
        if names.startswith(f"{run}/{worker}") and process.pid != os.getpid():
            found.append(process)
    return found
