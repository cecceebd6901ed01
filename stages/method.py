"""Resolve the method's name, with what params.yaml overrides, into what the later stages read.

Reads:  params.yaml: method and its overrides
Writes: data/method/{finetune,plan,filter}.json
Paper:  Sec. 4.2 (the methods that are compared)

It is a stage of its own, so that another name reruns only the stages whose part of the method
differs: diff-mix and diff-aug share a fine-tuned model.
"""

from pathlib import Path

from stages.shared.files import write_json
from stages.shared.methods import Method
from stages.shared.params import load
from stages.shared.paths import METHOD
from stages.shared.running.inputs import run
from stages.shared.schemas.method import Params, resolve


def write(method: Method, folder: Path) -> None:
    """Write one file for each stage that the choice concerns."""
    parts = {
        "finetune": {"strategy": method.strategy},
        "plan": {"mode": method.mode, "strength": list(method.strength)},
        "filter": {"criterion": method.criterion, "drop": method.drop},
    }

    for stage, part in parts.items():
        write_json(folder / f"{stage}.json", part, indent=None)


def main() -> None:
    write(resolve(load(Params)), METHOD)


if __name__ == "__main__":
    run(main)
