"""Train one arm's classifiers: on real images, or on real images partly replaced by synthetic ones (Sec. 3.4, Eq. 3).

    python -m stages.train real baseline        python -m stages.train synthetic diffmix

Reads data/subsample/manifest.csv, data/download/ and, for a synthetic arm, data/filter/manifest.csv, data/synthesize/.
Writes data/train/<arm>/ (predictions.csv: trial, split, key, label, predicted, group; trial-<k>.safetensors),
metrics/train/<arm>.csv (trial, epoch, loss, accuracy, learning_rate) and metrics/train/<arm>.json (last epoch's means).
Accuracies are percentages; the last epoch's model counts, and test is read once, when it is there.
"""

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from stages.shared.errors import BadInput
from stages.shared.networks import VIT_PATCH, VIT_PRETRAINED_RESOLUTION, Architecture, build_network
from stages.shared.params import PATH, Section, load, read
from stages.shared.runtime import device, seed_everything, workers
from stages.shared.tables import Table, read_classes, read_manifest
from stages.shared.training_data import (
    SYNTHETIC_COLUMNS,
    Centred,
    Data,
    Draws,
    Epoch,
    Mix,
    Pictures,
    draw_epoch,
    even_batches,
    mix_batch,
    real_pool,
    synthetic_pool,
)
from stages.shared.work import fingerprint, publish, work_folder

DATA, METRICS = Path("data"), Path("metrics/train")
CHECKPOINT_SECONDS = 60
State = dict[str, Any]


class Train(Section):
    architecture: Architecture
    pretrained: bool
    resize: int = Field(ge=8)
    resolution: int = Field(ge=8)
    padding: int = Field(ge=0)
    epochs: int = Field(ge=1)
    batch: int = Field(ge=3)  # equal parts of at least two: what batch normalisation needs
    learning_rate: float = Field(gt=0)
    momentum: float = Field(ge=0, lt=1)
    weight_decay: float = Field(ge=0)
    warmup: float = Field(ge=0, lt=1)
    label_smoothing: float = Field(ge=0, lt=1)
    trials: int = Field(ge=1)

    @model_validator(mode="after")
    def _fits(self) -> "Train":
        """A crop lies inside the padded image, and a ViT's patches fill it."""
        if self.resolution > self.resize + 2 * self.padding:
            raise ValueError("resolution must be at most resize + 2 * padding; enlarge train.resize or train.padding")
        if self.architecture == "vit_b_16" and self.resolution % VIT_PATCH:
            raise ValueError(f"vit_b_16 needs a resolution that is a multiple of {VIT_PATCH}")
        if self.architecture == "vit_b_16" and self.pretrained and self.resolution != VIT_PRETRAINED_RESOLUTION:
            raise ValueError(f"pretrained vit_b_16 needs a resolution of {VIT_PRETRAINED_RESOLUTION}")
        if self.architecture == "small_resnet" and self.pretrained:
            raise ValueError("small_resnet has no pretrained weights; set train.pretrained to false")
        return self


class RealArm(Section):
    mix: Mix
    mix_probability: float = Field(ge=0, le=1)


class SyntheticArm(RealArm):
    p: float = Field(ge=0, le=1)


class Synth(Section):
    gamma: float = Field(ge=0)


class RealParams(Section):
    seed: int = Field(ge=0)
    train: Train
    arm: RealArm


class SyntheticParams(RealParams):
    arm: SyntheticArm
    synth: Synth


def load_params(group: str, arm: str) -> RealParams:
    """Raises BadInput for an arm that params.yaml does not have."""
    arms = read().get("arms")
    known = {f"{g} {name}" for g, names in (arms if isinstance(arms, dict) else {}).items() for name in names or ()}
    if f"{group} {arm}" not in known:
        raise BadInput(f"{PATH}: arms has no arm {group} {arm!r}; it has {', '.join(sorted(known)) or 'none'}")
    model = SyntheticParams if group == "synthetic" else RealParams
    return load(model, {"arm": f"arms.{group}.{arm}"})


def load_data(params: RealParams, classes: pd.DataFrame) -> Data:
    """Raises BadInput, before anything is trained, where a table lacks what the arm needs."""
    resize, smoothing = params.train.resize, params.train.label_smoothing
    real = real_pool(Table(DATA / "download/train", read_manifest(DATA / "subsample")), classes, resize, smoothing)
    if not isinstance(params, SyntheticParams):
        return Data(real)
    table = Table(DATA / "synthesize", read_manifest(DATA / "filter", SYNTHETIC_COLUMNS))
    return Data(real, synthetic_pool(table, len(classes), params.synth.gamma, resize, smoothing), params.arm.p)


def load_tests(resize: int) -> dict[str, Pictures]:
    places = {"test": DATA / "download/test", "ood": DATA / "download/ood"}
    columns = {"test": [], "ood": ["group"]}
    return {
        split: Pictures(Table(place, read_manifest(place, columns[split])), resize) for split, place in places.items()
    }


def learning_rate(step: int, steps: int, params: Train) -> float:
    """Linear warm-up over the first share `warmup` of the steps, then half a cosine towards 0."""
    rising = round(params.warmup * steps)
    if step < rising:
        return params.learning_rate * (step + 1) / rising
    return params.learning_rate * (1 + math.cos(math.pi * (step - rising) / (steps - rising))) / 2


def make_loader(dataset: Dataset, batches: list[list[int]], params: Train) -> DataLoader:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers(params.resolution),
        pin_memory=device().type == "cuda",
        generator=torch.Generator(),  # DataLoader draws a seed it does not need: not from the common generator
    )


def new_state(params: RealParams, classes: int, seed: int) -> State:
    """A fresh network, its optimiser and no history."""
    seed_everything(seed)
    options = params.train
    network = build_network(options.architecture, classes, options.resolution, options.pretrained).to(device())
    optimizer = torch.optim.SGD(
        network.parameters(), options.learning_rate, momentum=options.momentum, weight_decay=options.weight_decay
    )
    return {"network": network, "optimizer": optimizer, "history": []}


def save_state(state: State, path: Path) -> None:
    """Write to a new file, then rename: a kill leaves the old one or the new one."""
    parts = {"network": state["network"].state_dict(), "optimizer": state["optimizer"].state_dict()}
    torch.save(parts | {"history": state["history"]}, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def restore_state(state: State, path: Path) -> None:
    saved = torch.load(path, map_location=device(), weights_only=True)
    state["network"].load_state_dict(saved["network"])
    state["optimizer"].load_state_dict(saved["optimizer"])
    state["history"] = saved["history"]


def train_epoch(state: State, data: Data, draws: Draws, epoch: int, params: RealParams) -> None:
    """One pass over as many images as there are real ones; appends epoch, loss, accuracy and rate to the history."""
    network, optimizer, options = state["network"].train(), state["optimizer"], params.train
    batches = even_batches(len(draws.real), options.batch)
    dataset = Epoch(data, draws, options.resolution, options.padding)
    loss_sum, correct = torch.zeros((), device=device()), torch.zeros((), device=device())
    for number, (images, labels) in enumerate(make_loader(dataset, batches, options)):
        images, labels = images.to(device(), non_blocking=True).float(), labels.to(device(), non_blocking=True)
        seed = int(draws.mix_seed[batches[number][0]])
        images, labels = mix_batch(images, labels, params.arm.mix, params.arm.mix_probability, seed)
        rate = learning_rate(epoch * len(batches) + number, options.epochs * len(batches), options)
        for group in optimizer.param_groups:
            group["lr"] = rate
        outputs = network(images)
        loss = F.cross_entropy(outputs, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss_sum += loss.detach() * len(images)
        correct += (outputs.argmax(1) == labels.argmax(1)).sum()
    means = [float(loss_sum) / len(dataset), 100 * float(correct) / len(dataset)]
    state["history"].append([epoch, *means, rate])


def train_trial(
    params: RealParams, data: Data, seed: int, checkpoint: Path, advance: Callable[[int], object] = lambda epochs: None
) -> State:
    """Train one classifier to its last epoch, going on from `checkpoint` where there is one."""
    state = new_state(params, data.real.labels.shape[1], seed)
    if checkpoint.exists():
        restore_state(state, checkpoint)
    advance(len(state["history"]))
    saved = time.monotonic()
    slack = params.train.resize + 2 * params.train.padding - params.train.resolution
    for epoch in range(len(state["history"]), params.train.epochs):
        train_epoch(state, data, draw_epoch(seed, epoch, data, slack), epoch, params)
        advance(1)
        if time.monotonic() - saved >= CHECKPOINT_SECONDS or epoch + 1 == params.train.epochs:
            save_state(state, checkpoint)
            saved = time.monotonic()
    return state


@torch.inference_mode()
def predict(network: nn.Module, pictures: Pictures, params: Train) -> list[int]:
    """The most likely class of each image."""
    network.eval()
    rows = list(range(len(pictures)))
    batches = [rows[first : first + 4 * params.batch] for first in rows[:: 4 * params.batch]]
    loader = make_loader(Centred(pictures, params.resolution), batches, params)
    return [label for images in loader for label in network(images.to(device())).argmax(1).tolist()]


def read_tests(network: nn.Module, trial: int, tests: dict[str, Pictures], params: Train) -> pd.DataFrame:
    """This trial's part of predictions.csv."""
    parts = []
    for split, pictures in tests.items():
        rows = pictures.table.rows
        part = pd.DataFrame({"trial": trial, "split": split, "key": rows["key"], "label": rows["label"]})
        part["predicted"] = pd.Series(predict(network, pictures, params), dtype=int)
        part["group"] = rows["group"] if split == "ood" else ""
        parts.append(part)
    return pd.concat(parts)


def weights(network: nn.Module) -> dict[str, Tensor]:
    """The tensors under the architecture's own names, in the memory order that safetensors asks for."""
    _normalise, classifier = network.children()
    return {name: tensor.detach().cpu().contiguous() for name, tensor in classifier.state_dict().items()}


def write_metrics(histories: list[list[list[float]]], arm: str) -> None:
    columns = ["epoch", "loss", "accuracy", "learning_rate"]
    parts = [pd.DataFrame(history, columns=columns).assign(trial=trial) for trial, history in enumerate(histories)]
    curves = pd.concat(parts)[["trial", *columns]].round({"loss": 4, "accuracy": 2, "learning_rate": 7})
    last = curves[curves["epoch"] == curves["epoch"].max()]
    METRICS.mkdir(parents=True, exist_ok=True)
    curves.to_csv(METRICS / f"{arm}.csv", index=False, lineterminator="\n")
    means = {"accuracy": round(float(last["accuracy"].mean()), 2), "loss": round(float(last["loss"].mean()), 4)}
    (METRICS / f"{arm}.json").write_text(json.dumps(means, indent=2, sort_keys=True) + "\n")


def train(params: RealParams, arm: str, work: Path) -> Path:
    """Train and test all trials; returns the folder with what is to be published."""
    result = work / "result"
    result.mkdir(exist_ok=True)
    data = load_data(params, read_classes(DATA / "download"))
    tests = load_tests(params.train.resize)
    histories, predictions = [], []
    with tqdm(total=params.train.trials * params.train.epochs, desc=f"train {arm}", unit="epoch") as bar:
        for trial in range(params.train.trials):
            state = train_trial(params, data, params.seed + trial, work / f"trial-{trial}.pt", bar.update)
            histories.append(state["history"])
            predictions.append(read_tests(state["network"], trial, tests, params.train))
            save_file(weights(state["network"]), result / f"trial-{trial}.safetensors")
    pd.concat(predictions).to_csv(result / "predictions.csv", index=False, lineterminator="\n")
    write_metrics(histories, arm)
    return result


def main() -> None:
    group, arm = sys.argv[1:] if len(sys.argv) == 3 else ("", "")
    params = load_params(group, arm)
    inputs = [DATA / "subsample", DATA / "download"]
    if group == "synthetic":
        inputs += [DATA / "filter", DATA / "synthesize"]
    with work_folder(f"train/{arm}", fingerprint(params, inputs)) as work:
        publish(train(params, arm, work), DATA / "train" / arm)


if __name__ == "__main__":
    main()
