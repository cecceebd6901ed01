"""Whether the same work gives the same bytes: again, beside other images, elsewhere in a batch."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor

from benchmarks.gpu import ours
from benchmarks.gpu.bench import Bench, Group
from benchmarks.gpu.cases.classifying import photo_table
from benchmarks.gpu.cases.translation import make_plan, reference_table
from benchmarks.gpu.comparing import compare_arrays, compare_images
from benchmarks.gpu.pictures import make_table
from benchmarks.gpu.sizes import STRENGTHS, Sizes
from benchmarks.gpu.timing import SKIPPED, Budget, Row, failed, our_settings
from stages.shared.diffusion.base_model import Pipeline
from stages.shared.diffusion.text import Text
from stages.shared.running.checkpoint import save_checkpoint
from stages.shared.tables import Table

AGAIN = "translation, twice"
COMPANIONS = "an image beside others than before"
PLACE = "an image at another place of its batch"
FINETUNING = "fine-tuning steps, twice"
CLASSIFIER = "classifier steps, twice"


def group(_sizes: Sizes) -> Group:
    return Group("same bytes", (AGAIN, COMPANIONS, PLACE, FINETUNING, CLASSIFIER), run)


def run(bench: Bench) -> Iterator[Row]:
    pipeline, text = ours.load_translator(bench)
    table = reference_table(bench)
    checks = translation_checks(bench, pipeline, text, table) | {
        FINETUNING: partial(compare_finetuning, bench),
        CLASSIFIER: partial(compare_classifiers, bench),
    }
    yield from answer(checks, bench.budget)


def answer(checks: dict[str, Callable[[], Row]], budget: Budget) -> Iterator[Row]:
    """A row for each check; an error ends that check alone."""
    for case, check in checks.items():
        if budget.is_spent():
            yield {"case": case, **SKIPPED}
            continue

        our_settings()
        try:
            yield {"case": case, **check()}
        except (Exception, SystemExit) as error:
            yield {"case": case, **failed(error)}


def translation_checks(
    bench: Bench, pipeline: Pipeline, text: Text, table: Table
) -> dict[str, Callable[[], Row]]:
    """The three questions about translations."""
    batch = bench.sizes.batch
    plan = make_plan(table, 2 * batch, bench.sizes.classes)
    rows = plan[plan["strength"] == STRENGTHS[1]]
    first = rows.iloc[:batch]

    # the first half stays where it is, the other half of the batch is replaced
    half = batch // 2
    mixed = pd.concat([rows.iloc[:half], rows.iloc[batch : 2 * batch - half]])
    rolled = first.iloc[np.roll(np.arange(batch), 1)]

    def make(members: pd.DataFrame) -> dict[str, bytes]:
        return ours.translate(pipeline, text, table, ours.sampling(bench, batch), [members])

    return {
        AGAIN: lambda: compare_images(make(first), make(first)),
        COMPANIONS: lambda: compare_images(make(first), make(mixed)),
        PLACE: lambda: compare_images(make(first), make(rolled)),
    }


def compare_finetuning(bench: Bench) -> Row:
    return finetune_twice(ours.open_finetuning(bench, finetuning_table(bench)), bench.folder)


def finetuning_table(bench: Bench) -> Table:
    """A few batches of training images."""
    sizes = bench.sizes
    side = sizes.resolution
    rows = 4 * sizes.finetune_batch
    return make_table(
        bench.folder / "training", rows, (side, side), sizes.classes, "jpeg", sizes.pictures
    )


def finetune_twice(course: ours.Course, folder: Path) -> Row:
    """Take a round of steps from the same start twice, and compare what was learned."""
    start = folder / "start.pt"
    save_checkpoint(course.learner.state([]), start)

    learned = []
    for _ in range(2):
        course.learner.restore(start)
        ours.finetune(course, folder / "checkpoint.pt")
        learned.append(
            {
                str(number): copy_array(parameter)
                for number, parameter in enumerate(course.learner.parameters)
            }
        )

    return compare_arrays(*learned)


def copy_array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy().copy()


def compare_classifiers(bench: Bench) -> Row:
    """Train an epoch twice."""
    sizes = bench.sizes
    recipe = sizes.recipes[0]
    table = photo_table(bench, recipe)

    trained = []
    for _ in range(2):
        classifier = ours.Classifier(recipe, table, sizes.classes, keep=False)
        classifier.train()
        state = classifier.state["network"].state_dict()
        trained.append({name: copy_array(tensor) for name, tensor in state.items()})

    return compare_arrays(*trained)
