"""Train one arm's classifiers: on real images, or on real ones partly replaced by synthetic ones.

Reads:  data/subsample/manifest.csv, data/download/{train,test,ood,classes.csv};
        for a synthetic arm, data/method/plan.json, data/filter/manifest.csv, data/synthesize/
Writes: data/train/<arm>/predictions.csv (trial, split, key, label, predicted, group),
        data/train/<arm>/curves.csv (trial, epoch, loss, accuracy, learning_rate),
        data/train/<arm>/trial-<k>.safetensors,
        metrics/train/<arm>.json (means of the last epoch)
Paper:  Sec. 4.1, Eq. 3

    python -m stages.train real baseline
    python -m stages.train synthetic diffmix

Accuracies are percentages. The last epoch's model counts: test images are read once, after it. A
synthetic image's label is Eq. 3's (eq3), a real-only classifier's answer (baseline) or CLIP's
(clip).
"""

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from safetensors.torch import save_file
from torch import Tensor, nn

from stages.shared.classifier.data import (
    SYNTHETIC_COLUMNS,
    Data,
    Pictures,
    Pool,
    even_batches,
    real_pool,
    synthetic_pool,
)
from stages.shared.classifier.labels import Answers, Labels, clip_labels, hard_labels, soft_labels
from stages.shared.classifier.portions import WHOLE, Portion, check_portion, own_portion
from stages.shared.classifier.training import (
    State,
    answer,
    load_trial,
    open_trial,
    train_trial,
)
from stages.shared.errors import BadInput
from stages.shared.files import write_csv, write_json
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.methods import read_mode
from stages.shared.params import PATH, load, read
from stages.shared.paths import DOWNLOAD, FILTER, METHOD, METRICS, SUBSAMPLE, SYNTHESIZE, TRAIN
from stages.shared.running.forks import spread
from stages.shared.running.inputs import run
from stages.shared.running.processes import common_folder, launch, processes, share
from stages.shared.running.runtime import hardware, precision, seed_everything, training_precision
from stages.shared.running.work import model_folder, publish, work_key
from stages.shared.schemas.train import RealArm, RealParams, SyntheticParams, Train
from stages.shared.tables import Table
from stages.shared.watching.progress import Progress
from stages.shared.watching.tracking import Tracker, check_tracking, track

CURVE_COLUMNS = ["epoch", "loss", "accuracy", "learning_rate"]


def load_params(group: str, arm: str) -> RealParams:
    """Raises BadInput for an arm that params.yaml does not have."""
    arms = read().get("arms")
    groups = arms if isinstance(arms, dict) else {}

    known = set()
    for name, members in groups.items():
        if isinstance(members, dict):
            known |= {f"{name} {member}" for member in members}

    if f"{group} {arm}" not in known:
        raise BadInput(
            f"{PATH}: arms has no arm {group} {arm!r}; it has {', '.join(sorted(known)) or 'none'}"
        )

    model = SyntheticParams if group == "synthetic" else RealParams
    return load(model, {"arm": f"arms.{group}.{arm}"})


def load_data(params: RealParams) -> Data:
    """Raises BadInput, before anything is trained, where a table lacks what the arm needs."""
    resize = params.train.resize
    smoothing = params.train.label_smoothing
    names = read_classes(DOWNLOAD)

    images = Table(DOWNLOAD / "train", read_manifest(SUBSAMPLE, classes=len(names)))
    real = real_pool(images, names, resize, smoothing)
    if not isinstance(params, SyntheticParams):
        return Data(real)

    made = Table(SYNTHESIZE, read_manifest(FILTER, SYNTHETIC_COLUMNS, classes=len(names)))
    labels = label_synthetic(params, made, images, len(names))
    return Data(real, synthetic_pool(made, labels, resize, smoothing), params.arm.p)


def label_synthetic(params: SyntheticParams, table: Table, real: Table, classes: int) -> Labels:
    """Labels of Eq. 3, of CLIP, or of the targets alone.

    An arm with a teacher starts from the targets; each trial's teacher then gives its own labels.
    """
    if params.arm.labels == "clip":
        return clip_labels(table, real, classes, params.clip)
    if params.arm.labels == "baseline":
        return hard_labels(table.rows["target_label"], classes)

    _mode, strengths = read_mode()
    return soft_labels(table.rows, params.synth.gamma, strengths, classes)


def load_tests(resize: int, classes: int, keep: bool | None = None) -> dict[str, Pictures]:
    """The splits that have images; `keep` is that of `Pictures`."""
    tables = {
        "test": Table(DOWNLOAD / "test", read_manifest(DOWNLOAD / "test", classes=classes)),
        "ood": Table(DOWNLOAD / "ood", read_manifest(DOWNLOAD / "ood", ["group"], classes=classes)),
    }

    return {split: Pictures(table, resize, keep) for split, table in tables.items() if len(table)}


def train_teacher(
    state: State, params: RealParams, data: Data, seed: int, checkpoint: Path
) -> Iterator[list[float]]:
    """`train_trial` on the real images alone, unmixed: a plain baseline of the same seed."""
    plain = RealArm(mix="none", mix_probability=0.0, reweight="none")
    alone = RealParams(seed=params.seed, train=params.train, arm=plain)
    return train_trial(state, alone, Data(data.real), seed, checkpoint)


def teach(data: Data, teacher: nn.Module, params: Train, portion: Portion = WHOLE) -> Data:
    """The same data, with the softmax of the teacher's answer as each synthetic image's label.

    It is not smoothed: the teacher learned from smoothed labels, and answers so.
    """
    assert data.synthetic is not None, "a teacher labels synthetic images"
    pictures = data.synthetic.pictures
    answers = answer(teacher, pictures, params, portion).softmax(1)
    return data._replace(synthetic=Pool(pictures, Answers(answers)))


def read_answers(answers: Tensor, trial: int, split: str, rows: pd.DataFrame) -> pd.DataFrame:
    """A trial's and a split's part of predictions.csv: the most likely class of each image."""
    return pd.DataFrame(
        {
            "trial": trial,
            "split": split,
            "key": rows["key"],
            "label": rows["label"],
            "predicted": answers.argmax(1).numpy(),
            "group": rows["group"] if split == "ood" else "",
        }
    )


def weights(network: nn.Module) -> dict[str, Tensor]:
    """The tensors under the architecture's own names, in the memory order of safetensors."""
    _normalise, classifier = network.children()
    tensors = classifier.state_dict()
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def write_curves(histories: list[list[list[float]]], path: Path) -> pd.DataFrame:
    """Write all trials' histories below each other, rounded; returns them."""
    parts = []
    for trial, history in enumerate(histories):
        parts.append(pd.DataFrame(history, columns=CURVE_COLUMNS).assign(trial=trial))

    curves = pd.concat(parts)[["trial", *CURVE_COLUMNS]]
    curves = curves.round({"loss": 4, "accuracy": 2, "learning_rate": 7})

    write_csv(path, curves)
    return curves


def write_metrics(curves: pd.DataFrame, path: Path) -> None:
    """Write the last epoch's means over the trials."""
    last = curves[curves["epoch"] == curves["epoch"].max()]
    means = {
        "accuracy": round(float(last["accuracy"].mean()), 2),
        "loss": round(float(last["loss"].mean()), 4),
    }

    write_json(path, means, indent=2)


class Trained(NamedTuple):
    """What a process has trained since it last said so."""

    epochs: int
    network: str = ""  # the last epoch's, trial-<k> or teacher-<k> ...
    line: Sequence[float] = ()  # ... and its line of the history; none where work is taken up again


def train_trials(
    params: RealParams, data: Data, portion: Portion, arm: str, work: Path, tracker: Tracker
) -> None:
    """Train this process's trials, or its portion of all of them.

    Each trial leaves its last epoch in <work>/trial-<k>.pt. Raises BadInput, before anything is
    trained, where a process would have no portion of a batch.
    """
    smallest = even_batches(len(data.real.labels), params.train.batch)[-1]
    check_portion(portion, len(smallest))

    every = range(params.train.trials)
    trials = share(every) if portion == WHOLE else list(every)
    epochs = len(trials) * params.train.epochs * (1 + has_teacher(params))
    place = processes().process_index if portion == WHOLE else 0
    silent = portion.number > 0

    with Progress(
        total=epochs, desc=f"train {arm}", unit="epoch", position=place, disable=silent
    ) as bar:
        for done in spread(trials, partial(train_in_turn, params, data, portion, work)):
            bar.update(done.epochs)
            record(tracker, done)


def record(tracker: Tracker, done: Trained) -> None:
    """Give an epoch's loss, accuracy and rate to the trackers, as <network>/<column>."""
    if done.line:
        epoch, *values = done.line
        names = [f"{done.network}/{column}" for column in CURVE_COLUMNS[1:]]
        tracker.log(dict(zip(names, values, strict=True)), int(epoch))


def train_in_turn(
    params: RealParams, data: Data, portion: Portion, work: Path, trials: Sequence[int]
) -> Iterator[Trained]:
    """Train trials one after the other; yields what was done since."""
    for trial in trials:
        yield from train_one(params, data, portion, work, trial)


def has_teacher(params: RealParams) -> bool:
    return isinstance(params, SyntheticParams) and params.arm.labels == "baseline"


def train_one(
    params: RealParams, data: Data, portion: Portion, work: Path, trial: int
) -> Iterator[Trained]:
    """Train one trial, with its teacher before it; yields what was done since."""
    classes = data.real.labels.classes
    seed = params.seed + trial

    if has_teacher(params):
        checkpoint = work / f"teacher-{trial}.pt"
        teacher = open_trial(params, classes, seed, checkpoint, portion)
        yield Trained(len(teacher["history"]))
        for line in train_teacher(teacher, params, data, seed, checkpoint):
            yield Trained(1, checkpoint.stem, line)
        data = teach(data, teacher["network"], params.train, portion)
        del teacher  # its optimiser would take memory while the pupil is trained

    checkpoint = trial_file(work, trial)
    state = open_trial(params, classes, seed, checkpoint, portion)
    yield Trained(len(state["history"]))
    for line in train_trial(state, params, data, seed, checkpoint):
        yield Trained(1, checkpoint.stem, line)


def trial_file(work: Path, trial: int) -> Path:
    return work / f"trial-{trial}.pt"


def predict(params: RealParams, classes: int, portion: Portion, work: Path) -> pd.DataFrame:
    """Test what all processes have trained; returns the content of predictions.csv."""
    # processes that share the images have no use for a whole table in memory
    tests = load_tests(params.train.resize, classes, None if portion == WHOLE else False)
    tasks = [(trial, split) for trial in range(params.train.trials) for split in tests]
    costs = [len(tests[split]) for _, split in tasks]
    parts = {}

    def answer_tests(some: Sequence[tuple[int, str]]) -> Iterator[tuple[Any, pd.DataFrame]]:
        for trial, split in some:
            network = load_trial(params, classes, trial_file(work, trial))["network"]
            answers = answer(network, tests[split], params.train, portion)
            yield (trial, split), read_answers(answers, trial, split, tests[split].table.rows)

    for task, part in spread(tasks, answer_tests, costs):
        parts[task] = part

    return pd.concat([parts[task] for task in tasks])


def write_result(
    params: RealParams, classes: int, predictions: pd.DataFrame, work: Path, result: Path
) -> pd.DataFrame:
    """Write the content of data/train/<arm>/; returns the curves."""
    result.mkdir(exist_ok=True)
    histories = []

    for trial in range(params.train.trials):
        state = load_trial(params, classes, trial_file(work, trial))
        histories.append(state["history"])
        save_file(weights(state["network"]), result / f"trial-{trial}.safetensors")

    write_csv(result / "predictions.csv", predictions)
    return write_curves(histories, result / "curves.csv")


def inputs(params: RealParams) -> list[Path]:
    """What the result is made of, beside the parameters."""
    paths = [SUBSAMPLE, DOWNLOAD]
    if not isinstance(params, SyntheticParams):
        return paths

    if params.arm.labels == "clip":
        # `work_key` hashes the code that is imported by now; this module is imported later
        code = Path(__file__).parent / "shared/pretrained/clip.py"
        paths += [*model_folder(params.clip), code]

    return [*paths, FILTER, SYNTHESIZE, METHOD / "plan.json"]


def parse_arguments() -> tuple[str, str]:
    """The group and the name of an arm of params.yaml."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.train", description="Train one arm's classifiers."
    )
    parser.add_argument("group", choices=["real", "synthetic"], help="which arms of params.yaml")
    parser.add_argument("arm", help="one of them, by name")
    given = parser.parse_args()
    return given.group, given.arm


def main() -> None:
    group, arm = parse_arguments()
    params = load_params(group, arm)

    launch()
    check_tracking()
    portion = own_portion(params.train.trials)
    # CLIP, which may give the labels, has a precision of its own
    settings = (hardware(), precision(), training_precision(), portion.total)
    with common_folder(f"train/{arm}", work_key(params, inputs(params), *settings)) as work:
        seed_everything(params.seed)
        data = load_data(params)
        with track(work, params.model_dump()) as tracker:
            train_trials(params, data, portion, arm, work, tracker)
        processes().wait_for_everyone()

        classes = data.real.labels.classes
        first = processes().is_main_process
        if first or portion != WHOLE:
            predictions = predict(params, classes, portion, work)
        if first:
            curves = write_result(params, classes, predictions, work, work / "result")
            publish(work / "result", TRAIN / arm)
            write_metrics(curves, METRICS / "train" / f"{arm}.json")


if __name__ == "__main__":
    run(main)
