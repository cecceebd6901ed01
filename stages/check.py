"""Refuse a wrong or misspelt parameter before anything expensive starts.

Reads:  params.yaml, the whole of it; which files the base model and CLIP have
Writes: data/check/ok, which never changes: every stage waits for it and none is made stale by it
Paper:  –

Every `dvc exp run -S` waits for this, so only the parameters' models are imported, no stage.
"""

import difflib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from stages.shared.diffusion.sampling import check_steps
from stages.shared.errors import BadInput
from stages.shared.params import PATH, Section, leaves, pick, quoted, read, shortened
from stages.shared.paths import CHECK, EMBEDDED
from stages.shared.pretrained.files import (
    CLIP,
    CLIP_INDEX,
    LORA,
    PIPELINE_INDEX,
    check_files,
    find_folder,
    pipeline_files,
    read_index,
)
from stages.shared.pretrained.reference import COMMIT, Pretrained
from stages.shared.running.inputs import run
from stages.shared.schemas import (
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

SCHEMAS: tuple[Any, ...] = (
    download, subsample, method, finetune, plan, synthesize, filter,
    assess, attention, evaluate, report,
)  # fmt: skip
ARMS: dict[str, type[Section]] = {"real": train.RealParams, "synthetic": train.SyntheticParams}
Declaration = tuple[type[Section], Mapping[str, str]]


def declarations(tree: dict[str, Any]) -> Iterator[Declaration]:
    """Every stage's parameter model with the sections of its fields, the arms as the file has them.

    Raises BadInput where the file does not hold both groups of arms.
    """
    for schema in SCHEMAS:
        yield schema.Params, {}

    groups: Any = tree.get("arms")
    if not are_groups(groups):
        raise BadInput(
            f"{PATH}: arms: must hold the two groups real and synthetic, "
            "each with at least one arm by name"
        )

    for group, model in ARMS.items():
        for name in groups[group]:
            yield model, {"arm": f"arms.{group}.{name}"}


def are_groups(groups: Any) -> bool:
    """Whether it is a section for each group of arms, with an arm in each."""
    if not isinstance(groups, dict) or set(groups) != set(ARMS):
        return False
    return all(isinstance(group, dict) and group for group in groups.values())


def paths(tree: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The dotted paths of all leaves of the file."""
    for name, value in tree.items():
        if isinstance(value, dict) and value:
            yield from paths(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def check(tree: dict[str, Any]) -> None:
    """Raises BadInput for the first parameter that is wrong.

    That is one that no stage knows, that is missing, that is out of range, or that does not go
    with another one.
    """
    check_known(tree)
    for model, sections in declarations(tree):
        pick(model, tree, sections)

    check_together(tree)
    check_model("base", pick(finetune.Params, tree).base, PIPELINE_INDEX)
    check_model("clip", pick(filter.Params, tree).clip, CLIP_INDEX)
    check_lora("synth.lcm_lora", pick(synthesize.Params, tree).synth.lcm_lora.model)


def check_known(tree: dict[str, Any]) -> None:
    """Raises BadInput for a parameter that no stage declares."""
    known = {leaf for model, sections in declarations(tree) for leaf in leaves(model, sections)}
    for path in paths(tree):
        if path not in known:
            close = difflib.get_close_matches(path, sorted(known), n=1)
            hint = f"did you mean {shortened(close[0])}?" if close else "take it out"
            raise BadInput(f"{PATH}: {shortened(path)} is no parameter of any stage; {hint}")


def check_together(tree: dict[str, Any]) -> None:
    """Raises BadInput for parameters of several stages that do not go with one another."""
    chosen = method.resolve(pick(method.Params, tree))
    synth = pick(synthesize.Params, tree).synth

    plan.check_choice(chosen.mode, pick(plan.Params, tree).synth)
    synthesize.check_mode(chosen.mode, synth)
    check_steps(chosen.strength, synth)

    arm = next(iter(tree["arms"]["synthetic"]))  # γ is the same for all of them
    params = pick(train.SyntheticParams, tree, {"arm": f"arms.synthetic.{arm}"})
    train.check_gamma(chosen, params.synth.gamma)
    assess.check_frechet(pick(assess.Params, tree).assess.frechet)


def check_model(section: str, model: Pretrained, index: str) -> None:
    """Raises BadInput for a folder without a whole model, and for a hub id without its commit."""
    if os.path.isdir(model.id):  # unlike Path.is_dir, says no to a name that is too long
        content = read_index(section, model, index)
        check_files(section, model.id, CLIP if index == CLIP_INDEX else pipeline_files(content))
    else:
        check_commit(section, model)


def check_lora(section: str, model: Pretrained | None) -> None:
    """`check_model` for a LoRA, which has no index."""
    if model is None:
        return

    if os.path.isdir(model.id):
        check_files(section, model.id, LORA)
    else:
        check_commit(section, model)


def check_commit(section: str, model: Pretrained) -> None:
    """Raises BadInput for what is no folder and has no commit of the hub."""
    if model.id.startswith(f"{EMBEDDED}/"):
        raise BadInput(
            f"{PATH}: {section}.id: there is no folder {model.id}; "
            f"get it back with `git checkout {EMBEDDED}`"
        )
    if model.revision is None or not COMMIT.fullmatch(model.revision):
        raise BadInput(
            f"{PATH}: {section}.id: {quoted(model.id)} is no folder, and a hub id needs as its "
            "revision the 40 hex digits of a commit (a branch or a tag moves); set both"
        )


def check_file() -> dict[str, Any]:
    """The parameters of params.yaml; raises BadInput.

    In an experiment it also says how to undo what `dvc exp run -S` has changed.
    """
    try:
        tree = read()
        check(tree)
    except BadInput as error:
        if "DVC_EXP_NAME" not in os.environ:
            raise
        raise BadInput(
            f"{error} (-S has changed {PATH}: set it right there, or undo all changes since the "
            f"commit with `git checkout {PATH}`)"
        ) from None

    return tree


def main() -> None:
    tree = check_file()

    # of a hub's model a few kB, once: that it is there shows now, not after hours
    read_index("base", pick(finetune.Params, tree).base, PIPELINE_INDEX)
    read_index("clip", pick(filter.Params, tree).clip, CLIP_INDEX)
    if lora := pick(synthesize.Params, tree).synth.lcm_lora.model:
        find_folder("synth.lcm_lora", lora, LORA)  # the whole of it: there is no smaller file

    download.find_photos(tree["data"]["folder"]["path"])
    evaluate.check_orphans(evaluate.arm_names(tree["arms"]))

    CHECK.mkdir(parents=True, exist_ok=True)
    (CHECK / "ok").write_text("params.yaml is valid\n")


if __name__ == "__main__":
    run(main)
