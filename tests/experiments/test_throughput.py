"""Table 11: ratios by hand, even strengths, and the real sampler on a few images."""

from pathlib import Path

import pytest
import yaml

from experiments.tables.recipes import parse, read_preset, read_recipe
from experiments.throughput import (
    Bench,
    Recipe,
    check_preset,
    make_rows,
    render,
    tabulate,
    time_methods,
)
from stages.shared.diffusion.translation import load_translator
from stages.shared.errors import BadInput
from stages.shared.methods import METHODS
from stages.shared.pretrained.reference import Pretrained
from stages.shared.schemas.synthesize import Synth
from tests.conftest import PIPELINE
from tests.support.sampling import PLAIN

RECIPE: Recipe = parse(Recipe, read_recipe("table11"), "table11")

# Ten images a second more in each row: 40 in the fourth, Diff-Mix.
RATES = {row.name: 10.0 * number for number, row in enumerate(RECIPE.rows, start=1)}


def test_ratios_are_against_diff_mix_as_the_papers_are():
    rows = {row["name"]: row for row in tabulate(RECIPE, RATES)}
    assert rows["Real-guidance"]["ratio"] == 0.5  # 20 of 40
    assert rows["Real-guidance"]["paper_ratio"] == 4.91  # 20,502 of 4,179
    assert rows["Diff-Mix, 8 steps"]["paper_ratio"] is None


def test_the_page_shows_rates_beside_the_papers():
    page = render(RECIPE, tabulate(RECIPE, RATES), "photos", "a machine")
    assert "| Real-filtering | 10.0 | 0.25 | 2,957 | 0.71 |" in page
    assert "Ours: preset photos, a machine; the median of 3 rounds of 384 images." in page


def test_a_workspace_with_another_presets_parameters_is_refused(tmp_path, monkeypatch):
    params = read_preset("toybirds")
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets/photos.yaml").write_text(yaml.safe_dump(params))
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    check_preset("photos")

    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params | {"seed": 1}))
    with pytest.raises(BadInput, match=r"params\.yaml: is not presets/photos\.yaml"):
        check_preset("photos")


@pytest.mark.parametrize("method", ["diff-mix", "da-fusion"])
def test_all_strengths_get_as_many_images(method, table):
    rows = make_rows(METHODS[method], RECIPE.images, table, 3)
    assert set(rows["strength"].value_counts()) == {RECIPE.images // len(METHODS[method].strength)}


def test_generated_images_refer_to_none(table):
    assert set(make_rows(METHODS["real-filtering"], 6, table, 3)["source_key"]) == {""}


def test_the_real_sampler_takes_the_steps_that_a_strength_asks_for(
    table, classes, tmp_path, monkeypatch
):
    """Of 20 steps: all from noise (Real-filtering, warm-up included), 2 at s = 0.1.

    The latter is Real-guidance.
    """
    monkeypatch.chdir(tmp_path)  # where no fine-tuned model lies
    base = Pretrained(id=str(Path(PIPELINE)), revision=None)
    synth = Synth(
        **PLAIN, steps=20, guidance_scale=2.0, resolution=32, batch=32, keep_background=False
    )
    pipeline, text = load_translator(base, classes, "none", synth)

    forwards: list[int] = []
    pipeline.unet.register_forward_hook(lambda *_: forwards.append(1))

    short = RECIPE.model_copy(update={"images": 4, "rounds": 3, "rows": RECIPE.rows[:2]})
    rates = time_methods(short, Bench(pipeline, text, table, len(classes), synth))
    assert list(rates) == ["Real-filtering", "Real-guidance"]
    assert min(rates.values()) > 0
    assert len(forwards) == 20 + 3 * (20 + 2)
