"""Signals that the shell has set to be ignored, as under nohup and in a script's background."""

import signal
import subprocess
import sys

import pytest

from tests.support.children import MAY_BE_IGNORED
from tests.support.closure import ROOT

CHILD = "import signal; print(signal.getsignal({number}) is signal.SIG_IGN)"
TESTS = """
import subprocess, sys
{enter}
subprocess.run([sys.executable, "-c", {child!r}])
"""
ENTER = "from tests.support.children import enter_run; enter_run()"


@pytest.mark.parametrize("number", MAY_BE_IGNORED)
@pytest.mark.parametrize(("enter", "ignored"), [("", "True"), (ENTER, "False")])
def test_children_of_a_test_run_hear_signals_that_the_run_itself_ignores(number, enter, ignored):
    tests = TESTS.format(enter=enter, child=CHILD.format(number=int(number)))

    done = subprocess.run(
        [sys.executable, "-c", tests], cwd=ROOT, capture_output=True, text=True, check=True,
        preexec_fn=lambda: signal.signal(number, signal.SIG_IGN),
    )  # fmt: skip

    assert done.stdout.strip() == ignored
