"""A parameter file as the stages read it: checked whole, and picked apart into what costs time."""

from pathlib import Path
from typing import NamedTuple

from experiments.tables.recipes import Tree
from stages.check import ARMS, check
from stages.shared.errors import BadInput
from stages.shared.methods import Method
from stages.shared.params import PATH, lookup, pick
from stages.shared.pretrained.reference import Pretrained
from stages.shared.schemas import assess, attention, filter, finetune, synthesize, train
from stages.shared.schemas.train import RealParams, Train


class Arm(NamedTuple):
    """One classifier of params.yaml's arms, with the stage that trains it."""

    stage: str
    params: RealParams  # of a synthetic arm SyntheticParams

    @property
    def synthetic(self) -> train.SyntheticArm | None:
        return self.params.arm if isinstance(self.params, train.SyntheticParams) else None


class Setting(NamedTuple):
    method: Method
    metaclass: str
    pairing: str
    base: Pretrained
    clip: Pretrained
    finetune: finetune.Finetune
    synth: synthesize.Synth
    drop: float  # the share of images that the filter leaves out
    frechet: assess.Features
    attended: int  # images of the stage attention
    train: Train
    arms: list[Arm]


def read_setting(tree: Tree, path: Path, method: Method) -> Setting:
    """Raises BadInput, naming `path`, for whatever the stage check refuses."""
    try:
        check(tree)
    except BadInput as error:
        raise BadInput(str(error).replace(f"{PATH}: ", f"{path}: ", 1)) from None
    learning, filtering = pick(finetune.Params, tree), pick(filter.Params, tree)
    arms = [read_arm(tree, group, name) for group in ARMS for name in tree["arms"][group]]
    return Setting(
        method=method,
        metaclass=lookup(tree, "data.metaclass"),
        pairing=lookup(tree, "synth.pairing"),
        base=learning.base,
        clip=filtering.clip,
        finetune=learning.finetune,
        synth=pick(synthesize.Params, tree).synth,
        drop=filtering.filter.drop,
        frechet=pick(assess.Params, tree).assess.frechet,
        attended=pick(attention.Params, tree).attention.images,
        train=arms[0].params.train,
        arms=arms,
    )


def read_arm(tree: Tree, group: str, name: str) -> Arm:
    place = {"arm": f"arms.{group}.{name}"}
    if group == "real":
        return Arm(f"train_real@{name}", pick(RealParams, tree, place))
    return Arm(f"train@{name}", pick(train.SyntheticParams, tree, place))
