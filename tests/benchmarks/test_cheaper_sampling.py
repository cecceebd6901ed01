"""The comparison of cheaper sampling: by hand, and with the real sampler on a few images."""

import numpy as np
import pandas as pd
import pytest

from benchmarks import cheaper_sampling
from benchmarks.cheaper_sampling import (
    Bench,
    change,
    draw_truth,
    make_plan,
    render,
    run_cases,
    show_change,
    tabulate,
)
from stages.datasets.toybirds.species import SPECIES
from stages.shared.diffusion.translation import load_translator
from stages.shared.manifests import read_classes, write_classes
from stages.shared.measuring.judge import load_judge
from stages.shared.pretrained.reference import Pretrained
from stages.shared.schemas.synthesize import Synth
from tests.conftest import BASE, PIPELINE
from tests.support.sampling import PLAIN

SYNTH = Synth(**PLAIN, steps=10, guidance_scale=2.0, resolution=64, batch=16, keep_background=False)


def test_strengths_share_references_of_other_classes_and_noise(table):
    plan = make_plan(table, 24)
    parts = [part.drop(columns=["key", "strength"]) for _, part in plan.groupby("strength")]

    assert len(plan) == 72
    assert list(parts[0]["target_label"].value_counts()) == [2] * 12
    assert (plan["source_label"] != plan["target_label"]).all()
    for part in parts[1:]:
        assert part.reset_index(drop=True).equals(parts[0].reset_index(drop=True))


def test_a_change_is_the_mean_of_pairs_with_its_interval():
    """Differences of 0, 100, 0 and 0 points: their deviation is 50, its error 25."""
    hits = pd.Series([True, True, False, False])
    base = pd.Series([True, False, False, False])
    assert change(hits, base) == {"mean": 25.0, "half_interval": 49.0}


def test_a_row_compares_with_the_default():
    base = pd.DataFrame(
        {"strength": [0.5, 0.5, 0.9, 0.9], "recognised": [True, False, True, True],
         "background_kept": [True, True, True, False]}
    )  # fmt: skip
    other = base.assign(recognised=[True, True, True, True])
    judged = {"default": base, "8 steps": other}
    rows = tabulate({"default": 2.0, "8 steps": 0.5}, judged, images=4)

    assert rows[0]["images_per_second"] == 2.0
    assert rows[0]["recognised"] == {"0.5": 50.0, "0.9": 100.0}
    assert rows[1]["speed"] == 4.0
    assert rows[1]["recognised_change"] == {"mean": 25.0, "half_interval": 49.0}
    line = (
        "| 8 steps | `synth.steps: 8` | 8.0 | 4.00 | 100.0 / 100.0 | +25.0 ± 49.0 "
        "| 100.0 / 50.0 | in no image |"
    )
    assert render(rows).splitlines()[-1] == line


def test_changes_that_cancel_are_not_called_none():
    hits = pd.Series([True, True, False, False])
    base = pd.Series([True, False, True, False])
    assert show_change(change(hits, base)) == "+0.0 ± 80.0"
    assert show_change(change(hits, hits)) == "in no image"


@pytest.fixture
def bench(table, tmp_path, monkeypatch) -> Bench:
    """The embedded base without fine-tuning."""
    write_classes(tmp_path, [species.name for species in SPECIES], "bird")
    classes = read_classes(tmp_path)
    judge = load_judge(BASE / "judge")
    monkeypatch.chdir(tmp_path)  # where no fine-tuned model lies
    pipeline, text = load_translator(Pretrained(id=PIPELINE, revision=None), classes, "none", SYNTH)
    return Bench(pipeline, text, table, judge, SYNTH, bias=0.95)


def test_every_case_samples_as_it_says(bench, monkeypatch):
    """Twelve images at strengths 0.5, 0.7 and 0.9 of ten steps: 21 steps, all of them guided.

    Half guided they are 2 + 3 + 4. At an interval of 2 the deep blocks see 3 + 4 + 5. The warm-up
    is a batch of 12 at 0.5 and one of 12 at 0.7, and the first 8 at 0.9.
    """
    cases = {"default": {}, "half": {"guidance_stop": 0.5}, "reuse": {"cache_interval": 2}}
    monkeypatch.setattr(cheaper_sampling, "CASES", cases)
    whole: list[int] = []
    deep: list[int] = []
    unet = bench.pipeline.unet
    unet.register_forward_pre_hook(lambda _, given: whole.append(len(given[0])))
    unet.mid_block.resnets[0].register_forward_hook(lambda *_: deep.append(1))

    plan = make_plan(bench.table, 12)
    truth = draw_truth(plan, bench.bias)
    seconds, judged = run_cases(bench, plan, truth, rounds=1)

    steps = 5 + 7 + 9
    assert whole == [32] * steps + [32] * steps + half_guided() + [32] * steps
    assert len(deep) == 3 * steps + (3 + 4 + 5)
    assert list(seconds) == list(cases)
    assert all(len(frame) == 36 for frame in judged.values())
    assert not np.isnan(judged["reuse"]["background_kept"].astype(float)).any()


def half_guided() -> list[int]:
    """The batches of 16 images that the UNet sees where half of the steps are guided."""
    sizes = []
    for steps, guided in ((5, 2), (7, 3), (9, 4)):
        sizes += [32] * guided + [16] * (steps - guided)
    return sizes
