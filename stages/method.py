"""Resolve the method's name, with what params.yaml overrides, into what the later stages read.

Writes data/method/{finetune,plan,filter}.json. A stage of its own, so that another name reruns only the stages whose
part of it differs: diff-mix and diff-aug share a fine-tuned model.
"""

from pathlib import Path

from stages.shared.files import write_json
from stages.shared.methods import (
    Method,
)
from stages.shared.params import load
from stages.shared.paths import METHOD
from stages.shared.schemas.method import Params, resolve


def write(method: Method, folder: Path) -> None:
    """One file for each stage that the choice concerns."""
    parts = {
        "finetune": {"strategy": method.strategy},
        "plan": {"mode": method.mode, "strength": list(method.strength)},
        "filter": {"criterion": method.criterion},
    }
    for stage, part in parts.items():
        write_json(folder / f"{stage}.json", part, indent=None)


def main() -> None:
    write(resolve(load(Params)), METHOD)


if __name__ == "__main__":
    main()
