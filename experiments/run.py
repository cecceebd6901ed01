"""Run the experiments of a table, a figure or all claims through DVC, beside the paper's numbers.

    python -m experiments.run table5                   all rows of experiments/tables/table5.yaml
    python -m experiments.run fig6 '5-shot *'          the rows whose names match
    python -m experiments.run claims --dry             what would be run, and nothing else

What is finished already is not run again; an interrupted call goes on where it was. Environment:
PRESET, a file of presets/ (default toybirds), and JOBS, experiments at a time (default 1).
"""

import argparse
import os
import sys
from pathlib import Path

from experiments.claims import page as claims_page
from experiments.claims.schema import read_claims
from experiments.claims.verdicts import ClaimBook, read_findings
from experiments.running import queue, watch
from experiments.running.fingerprint import Stages, read_stages
from experiments.running.plans import plan, spent
from experiments.running.queue import Experiment
from experiments.running.results import (
    DEFAULT_PRESET,
    folder,
    keep_published,
    lacking,
    read_json,
    record,
    recorded,
    write,
)
from experiments.running.watch import Watch
from experiments.running.workspace import Workspace
from experiments.tables.recipes import Case, cases, read_preset, read_table
from stages.shared.errors import BadInput
from stages.shared.files import write_json
from stages.shared.params import read
from stages.shared.paths import METRICS
from stages.shared.running.work import INTERRUPTED

WHOLE = ("claims", "table11")  # have no rows of their own


def jobs() -> int:
    """Experiments at a time; raises BadInput where JOBS is no such number."""
    text = os.environ.get("JOBS", "1")
    if not text.isdecimal() or int(text) < 1:
        raise BadInput(f"JOBS: {text!r} is not a number of at least 1; unset it for 1")
    return int(text)


def seconds_file(preset: str) -> Path:
    """How long each experiment took, by its fingerprint."""
    return folder(preset) / "seconds.json"


def announce(chosen: list[Case], unserved: list[Case], stages: Stages) -> list[Experiment]:
    """Say what there is to do; returns it."""
    params = read()
    wanted = plan(chosen, stages, params)
    missing = plan(unserved, stages, params)

    finished = len(wanted) - len(missing)
    count = f"{len(chosen)} rows, {len(wanted)} experiments"
    print(f"{count}: {finished} are there, {len(missing)} to run")
    for experiment in missing:
        print(f"  {experiment.name}")

    if missing and (others := count_others(missing)):
        print(
            f"{others} others wait in DVC's queue before these; "
            "`dvc queue remove --queued` drops all that wait"
        )
    return missing


def count_others(experiments: list[Experiment]) -> int:
    """What waits in the queue, which goes by age, and is not among them."""
    entries = queue.entries()
    waiting = {fingerprint for fingerprint in entries if entries[fingerprint].status == "Queued"}
    return len(waiting - {experiment.fingerprint for experiment in experiments})


def perform(experiments: list[Experiment], workspace: Workspace, preset: str) -> int:
    """Run them all; returns the exit status.

    What is known of their seconds is kept however the wait ends.
    """
    if not experiments:
        return 0

    workspace.check_place()
    workspace.check_clean()  # else DVC would take changes along that are in no commit
    session = Watch(experiments, workspace, queue)
    status = 0
    try:
        watch.run(session, jobs())
    except KeyboardInterrupt:
        print(
            "interrupted; the same call goes on "
            "(a worker may still be at work: `dvc queue stop --kill` ends it)"
        )
        status = INTERRUPTED
    finally:
        keep_seconds(session, seconds_file(preset))

    return status or int(any(outcome.failed for outcome in session.ended.values()))


def keep_seconds(session: Watch, path: Path) -> None:
    """Add the seconds of those that have ended well to the file."""
    done = {
        fingerprint: outcome.seconds
        for fingerprint, outcome in session.ended.items()
        if outcome.seconds and not outcome.failed
    }
    write_json(path, read_json(path) | done)


def run_table(name: str, patterns: list[str], preset: str, dry: bool) -> int:
    """Returns the exit status."""
    table = read_table(name)
    tree = read_preset(preset)
    stages = read_stages()
    workspace = Workspace(stages)
    path = folder(preset) / f"{name}.json"
    earlier = recorded(path, table.columns)

    chosen = cases(name, tree, patterns)
    missing = announce(chosen, lacking(chosen, stages, queue.finished(), earlier), stages)
    if dry:
        return 0

    status = perform(missing, workspace, preset)

    seconds = read_json(seconds_file(preset))
    rows = [
        record(case, table.columns, stages, queue.finished(), earlier, seconds)
        for case in cases(name, tree)
    ]
    rows = keep_published(rows, path, table.columns)
    write(path, table, rows, preset, tree["train"]["trials"])
    print(f"wrote {path} and {path.with_suffix('.md')}; {spent(chosen, stages, seconds)}")
    return status


def run_claims(preset: str, dry: bool) -> int:
    """Returns the exit status."""
    tree = read_preset(preset)
    stages = read_stages()
    workspace = Workspace(stages)
    path = METRICS / "claims.json" if preset == DEFAULT_PRESET else folder(preset) / "claims.json"
    book = ClaimBook(read_claims(), tree, stages, read_json(path))

    chosen = list(book.cases.values())
    missing = announce(chosen, book.lacking(queue.finished()), stages)
    if dry:
        return 0

    status = perform(missing, workspace, preset)

    cost = spent(chosen, stages, read_json(seconds_file(preset)))
    content = book.content(queue.finished())
    if len(read_findings(content)) < len(read_findings(read_json(path))):
        print(
            f"{path}: left as it is, since it holds more than is measured now; call again; {cost}"
        )
        return status or 1

    claims_page.write(content, path, preset, tree["train"]["trials"], cost)
    print(f"wrote {path} and {path.with_suffix('.md')}; {cost}")
    return status


def run_throughput(preset: str, dry: bool) -> int:
    """Returns the exit status."""
    if dry:
        print(
            "no experiments: it measures this machine, "
            "with what `dvc repro` has left in the workspace"
        )
        return 0

    from experiments import throughput  # here: it imports diffusers, which takes seconds

    throughput.run(preset)
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m experiments.run", description=__doc__.splitlines()[0]
    )
    parser.add_argument("name", help="a file of experiments/tables/, without .yaml")
    parser.add_argument(
        "rows", nargs="*", help="names of rows, with * for anything; none: all of them"
    )
    parser.add_argument("--dry", action="store_true", help="say what would be run, and run nothing")
    given = parser.parse_args()

    preset = os.environ.get("PRESET", DEFAULT_PRESET)
    if given.name in WHOLE and given.rows:
        parser.error(f"{given.name} has no rows to choose from")

    if given.name == "table11":
        sys.exit(run_throughput(preset, given.dry))
    if given.name == "claims":
        sys.exit(run_claims(preset, given.dry))
    sys.exit(run_table(given.name, given.rows, preset, given.dry))


if __name__ == "__main__":
    main()
