"""Run a table's, a figure's or all claims' experiments through DVC, and write them beside the paper's numbers.

    python -m experiments.run table5                   all rows of experiments/table5.yaml
    python -m experiments.run fig6 '5-shot *'          the rows whose names match
    python -m experiments.run claims --dry             what would be run, and nothing else

What is there already is not run again; an interrupted call goes on where it was. Environment: PRESET, a file of
presets/ (default toybirds), and JOBS, experiments at a time (default 1).
"""

import argparse
import os
import sys
from pathlib import Path

from experiments import claims, queue, watch
from experiments.fingerprint import Stages, read_stages, sources
from experiments.plans import plan, serving
from experiments.queue import Experiment
from experiments.recipes import Case, cases, read_preset, read_table
from experiments.results import DEFAULT_PRESET, folder, read_json, record, recorded, write, write_json
from experiments.watch import Watch
from stages.shared.errors import BadInput
from stages.shared.params import read

WHOLE = ("claims", "table11")  # have no rows of their own
INTERRUPTED = 130  # the shell's status of a process that Ctrl-C has ended


def jobs() -> int:
    text = os.environ.get("JOBS", "1")
    if not text.isdigit() or int(text) < 1:
        raise BadInput(f"JOBS: {text!r} is not a number of at least 1; unset it for 1")
    return int(text)


def seconds_file(preset: str) -> Path:
    """How long each experiment took, by its fingerprint."""
    return folder(preset) / "seconds.json"


def announce(chosen: list[Case], lacking: list[Case], stages: Stages) -> list[Experiment]:
    """Say what there is to do; returns it."""
    workspace = read()
    wanted, missing = plan(chosen, stages, workspace), plan(lacking, stages, workspace)
    there = len(wanted) - len(missing)
    print(f"{len(chosen)} rows, {len(wanted)} experiments: {there} are there, {len(missing)} to run")
    for experiment in missing:
        print(f"  {experiment.name}")
    return missing


def perform(experiments: list[Experiment], stages: Stages, preset: str) -> int:
    """Run them all; returns the exit status. What is known of their seconds is kept also where Ctrl-C ends the wait."""
    if not experiments:
        return 0
    queue.check_clean({str(path) for path in sources(stages, stages)} | {"params.yaml", "dvc.yaml"})
    session, status = Watch(experiments), 0
    try:
        watch.run(session, jobs())
    except KeyboardInterrupt:
        print("interrupted; DVC's queue works on, and the same call goes on (`dvc queue stop --kill` ends it)")
        status = INTERRUPTED
    done = {mark: outcome.seconds for mark, outcome in session.ended.items() if outcome.seconds and not outcome.failed}
    write_json(seconds_file(preset), read_json(seconds_file(preset)) | done)
    return status or int(any(outcome.failed for outcome in session.ended.values()))


def run_table(name: str, patterns: list[str], preset: str, dry: bool) -> int:
    """Returns the exit status."""
    table, tree, stages = read_table(name), read_preset(preset), read_stages()
    path = folder(preset) / f"{name}.json"
    earlier = recorded(path, table.columns)
    known = queue.finished().keys() | earlier.keys()
    chosen = cases(name, tree, patterns)
    missing = announce(chosen, [case for case in chosen if serving(case, stages, known) is None], stages)
    if dry:
        return 0
    status = perform(missing, stages, preset)
    seconds = read_json(seconds_file(preset))
    rows = [record(case, table.columns, stages, queue.finished(), earlier, seconds) for case in cases(name, tree)]
    write(path, table, rows, preset, tree["train"]["trials"])
    print(f"wrote {path} and {path.with_suffix('.md')}")
    return status


def run_claims(preset: str, dry: bool) -> int:
    """Returns the exit status."""
    tree, stages = read_preset(preset), read_stages()
    path = Path("metrics") / "claims.json" if preset == DEFAULT_PRESET else folder(preset) / "claims.json"
    docket = claims.Docket(claims.read_claims(), tree, stages, read_json(path))
    chosen, there = list(docket.cases.values()), queue.finished()
    unmeasured = docket.needed()
    missing = announce(chosen, [case for case in unmeasured if serving(case, stages, there) is None], stages)
    if dry:
        return 0
    status = perform(missing, stages, preset)
    claims.write(docket.content(queue.finished()), path, preset, tree["train"]["trials"])
    print(f"wrote {path} and {path.with_suffix('.md')}")
    return status


def run_throughput(dry: bool) -> int:
    """Returns the exit status."""
    if dry:
        print("no experiments: it measures this machine, with what `dvc repro` has left in the workspace")
        return 0
    from experiments import throughput  # here: it imports diffusers, which takes seconds

    throughput.run()
    return 0


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m experiments.run", description=__doc__.splitlines()[0])
    parser.add_argument("name", help="a file of experiments/, without .yaml")
    parser.add_argument("rows", nargs="*", help="names of rows, with * for anything; none: all of them")
    parser.add_argument("--dry", action="store_true", help="say what would be run, and run nothing")
    given = parser.parse_args()
    preset = os.environ.get("PRESET", DEFAULT_PRESET)
    if given.name in WHOLE and given.rows:
        parser.error(f"{given.name} has no rows to choose from")
    if given.name == "table11":
        sys.exit(run_throughput(given.dry))
    if given.name == "claims":
        sys.exit(run_claims(preset, given.dry))
    sys.exit(run_table(given.name, given.rows, preset, given.dry))


if __name__ == "__main__":
    main()
