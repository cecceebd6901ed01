"""Run the experiments of a table, a figure or all claims through DVC, beside the paper's numbers.

    python -m experiments.run table5                   all rows of experiments/tables/table5.yaml
    python -m experiments.run fig6 '5-shot *'          the rows whose names match
    python -m experiments.run claims --dry             what would be run, and nothing else

What is finished already is not run again; an interrupted call goes on where it was. Environment:
PRESET, a file of presets/ (default toybirds), JOBS, experiments at a time (default 1), and
REPLICATES, runs of each row (default: as many as the table's file says).
"""

import argparse
import os
import signal
import sys
from pathlib import Path

from experiments.claims import page as claims_page
from experiments.claims.schema import find_cases, read_claims
from experiments.claims.verdicts import Evidence, count_missing, judge_all
from experiments.running.results import (
    DEFAULT_PRESET,
    folder,
    keep_published,
    read_json,
    record,
    setting_of,
    write,
)
from experiments.running.series import Series
from experiments.tables.recipes import cases, read_preset, read_table
from experiments.tables.replicates import count_replicates
from stages.shared.paths import METRICS

WHOLE = ("claims", "table11")  # have no rows of their own


def run_table(name: str, patterns: list[str], preset: str, dry: bool) -> int:
    """Returns the exit status."""
    table = read_table(name)
    tree = read_preset(preset)
    count = count_replicates(table.replicates)
    path = results_path(name, preset, count, table.replicates)

    series = Series(cases(name, tree, patterns), count, preset)
    status = series.run(dry)
    if dry:
        return status

    rows = [
        record(case, table.columns, series.stages, series.ledger, count)
        for case in cases(name, tree)
    ]
    rows = keep_published(rows, path, table.columns)
    write(path, table, rows, preset, setting_of(count, tree))

    print(f"wrote {path} and {path.with_suffix('.md')}; {series.spent()}")
    return status


def run_claims(preset: str, dry: bool) -> int:
    """Returns the exit status."""
    claims = read_claims()
    rows = find_cases(claims, read_preset(preset))
    count = count_replicates(claims.replicates, least=3)
    path = results_path("claims", preset, count, claims.replicates)

    series = Series(list(rows.values()), count, preset)
    status = series.run(dry)
    if dry:
        return status

    content = judge_all(claims, Evidence(rows, series.stages, series.ledger, count))
    earlier = read_json(path)
    if earlier and count_missing(content["claims"]) > count_missing(earlier["claims"]):
        print(f"{path}: left as it is, since it holds more than has been run now; call again")
        return status or 1

    claims_page.write(content, path, preset, series.spent())
    written = ", ".join(str(path.with_suffix(suffix)) for suffix in (".json", ".md", ".png"))
    print(f"wrote {written}; {series.spent()}")
    return status


def results_path(name: str, preset: str, count: int, asked: int) -> Path:
    """Where results go; those of other numbers of replicates have a file of their own."""
    file = f"{name}.json" if count == asked else f"{name}-of-{count}.json"
    beside = name == "claims" and preset == DEFAULT_PRESET  # the page that all others lead to
    return (METRICS if beside else folder(preset)) / file


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
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's end, as Ctrl-C

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
