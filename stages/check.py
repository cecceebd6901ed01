"""Refuse a wrong or misspelt parameter before anything expensive starts.

Reads params.yaml, the whole of it. Writes data/check/ok, which never changes: every stage waits for it and none is made
stale by it.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages import (
    assess,
    attention,
    download,
    evaluate,
    filter,
    finetune,
    method,
    plan,
    report,
    subsample,
    synthesize,
    train,
)
from stages.datasets.folder import find_root
from stages.datasets.hub import COMMIT
from stages.shared.errors import BadInput
from stages.shared.model_files import CLIP, CLIP_INDEX, PIPELINE_INDEX, check_files, pipeline_files, read_index
from stages.shared.params import PATH, Section, leaves, pick, quoted, read, shortened
from stages.shared.pretrained import Pretrained
from stages.shared.translation import check_steps

OUTPUT = Path("data/check/ok")
EMBEDDED = "data/base"  # git's
STAGES: tuple[Any, ...] = (
    download, subsample, method, finetune, plan, synthesize, filter, assess, attention, evaluate, report,
)  # fmt: skip
ARMS: dict[str, type[Section]] = {"real": train.RealParams, "synthetic": train.SyntheticParams}
Declaration = tuple[type[Section], Mapping[str, str]]


def declarations(tree: dict[str, Any]) -> Iterator[Declaration]:
    """Every stage's parameter model with the places of its fields, the arms as the file lists them."""
    for stage in STAGES:
        yield stage.Params, {}
    groups = tree.get("arms")
    if (
        not isinstance(groups, dict)
        or set(groups) != set(ARMS)
        or not all(isinstance(g, dict) and g for g in groups.values())
    ):
        raise BadInput(f"{PATH}: arms: must hold the two groups real and synthetic, each with at least one arm by name")
    for group, model in ARMS.items():
        for name in groups[group]:
            yield model, {"arm": f"arms.{group}.{name}"}


def paths(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted paths of all leaves of the file."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from paths(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def check(tree: dict[str, Any]) -> None:
    """Raises BadInput for the first parameter that no stage knows, that is missing, or that is out of range."""
    known = {leaf for model, places in declarations(tree) for leaf in leaves(model, places)}
    for path in paths(tree):
        if path not in known:
            close = difflib.get_close_matches(path, sorted(known), n=1)
            hint = f"did you mean {shortened(close[0])}?" if close else "take it out"
            raise BadInput(f"{PATH}: {shortened(path)} is no parameter of any stage; {hint}")
    for model, places in declarations(tree):
        pick(model, tree, places)
    chosen, made = method.resolve(pick(method.Params, tree)), pick(synthesize.Params, tree).synth
    plan.check_choice(chosen.mode, pick(plan.Params, tree).synth)
    synthesize.check_mode(chosen.mode, made)
    check_steps(chosen.strength, made)
    train.check_gamma(chosen, pick(train.SyntheticParams, tree, {"arm": first_arm(tree)}).synth.gamma)
    assess.check_frechet(pick(assess.Params, tree).assess.frechet)
    check_model("base", pick(finetune.Params, tree).base, PIPELINE_INDEX)
    check_model("clip", pick(filter.Params, tree).clip, CLIP_INDEX)


def first_arm(tree: dict[str, Any]) -> str:
    return f"arms.synthetic.{next(iter(tree['arms']['synthetic']))}"


def check_model(section: str, model: Pretrained, index: str) -> None:
    """Raises BadInput for a folder that holds no whole model, and for a hub id without its commit."""
    if os.path.isdir(model.id):  # unlike Path.is_dir, says no to a name that is too long
        content = read_index(section, model, index)
        check_files(section, model.id, CLIP if index == CLIP_INDEX else pipeline_files(content))
    elif model.id.startswith(f"{EMBEDDED}/"):
        raise BadInput(
            f"{PATH}: {section}.id: there is no folder {model.id}; get it back with `git checkout {EMBEDDED}`"
        )
    elif model.revision is None or not COMMIT.fullmatch(model.revision):
        raise BadInput(
            f"{PATH}: {section}.id: {quoted(model.id)} is no folder, and a hub id needs as its revision the 40 hex "
            "digits of a commit (a branch or a tag moves); set both"
        )


def main() -> None:
    tree = read()
    check(tree)
    read_index("base", pick(finetune.Params, tree).base, PIPELINE_INDEX)  # of a hub's model: a few kB, once
    read_index("clip", pick(filter.Params, tree).clip, CLIP_INDEX)  # that it is there shows now, not after hours
    find_root(tree["data"]["folder"]["path"])
    evaluate.check_orphans(evaluate.arm_names(tree["arms"]))  # now, not when all arms are trained
    OUTPUT.parent.mkdir(parents=True, exist_ok=True)
    OUTPUT.write_text("params.yaml is valid\n")


if __name__ == "__main__":
    main()
