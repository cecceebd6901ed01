"""attention measures its maps as stated, and writes what it promises; the tool draws one pair."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages import attention
from stages.attention import (
    Example,
    choose_rows,
    index_of_other,
    measure_maps,
    overlap,
    overlay,
    plan_pair,
    ranking,
)
from stages.datasets.toybirds.drawing import render
from stages.datasets.toybirds.species import SPECIES
from stages.shared.manifests import write_classes
from stages.shared.tables import encode_png, write_table
from tests.conftest import PIPELINE


def test_the_ranking_is_the_share_of_pairs_that_are_in_order():
    mask = np.array([[True, False], [True, False]])

    assert ranking(np.array([[4, 1], [3, 2]]), mask) == 100

    # 2 is below 3, the other three pairs are in order
    assert ranking(np.array([[4, 3], [2, 1]]), mask) == 75

    assert ranking(np.array([[5, 5], [5, 5]]), mask) == 50


def test_the_overlap_takes_as_many_pixels_as_the_mask_has():
    mask = np.array([[True, True], [False, False]])
    assert overlap(np.array([[9, 1], [5, 0]]), mask) == pytest.approx(100 / 3)
    assert overlap(np.array([[9, 8], [5, 0]]), mask) == 100


def test_another_image_is_never_the_same_reference_again():
    keys = ["a", "b", "a", "c"]
    assert [index_of_other(index, keys) for index in range(4)] == [3, 3, 1, 1]
    assert index_of_other(0, ["a", "a"]) is None


def example(
    key: str, scores: list[list[float]], mask: list[list[bool]] | None, strength: float
) -> Example:
    row = SimpleNamespace(source_key=key, source_label=0, target_label=1, strength=strength)
    maps = np.stack([np.array(scores, np.float32)] * 3)
    image = Image.new("RGB", (2, 2))
    return Example(row, image, image, maps, None if mask is None else np.array(mask))


def test_chance_is_measured_on_another_references_mask():
    left = [[True, False], [True, False]]
    right = [[False, True], [False, True]]
    examples = [
        example("a", [[4, 1], [3, 2]], left, 0.5),
        example("b", [[1, 4], [2, 3]], right, 0.7),
        example("c", [[1, 2], [3, 4]], None, 0.9),
    ]

    measures = measure_maps(examples)

    perfect = {"auc": 100.0, "auc_chance": 0.0, "overlap": 100.0, "overlap_chance": 0.0}
    words = dict.fromkeys(("identifier", "metaclass", "end_of_text"), perfect)
    assert measures == {"images": 3, "strength": 0.7, **words}


def test_without_masks_there_are_no_measures():
    measures = measure_maps([example("a", [[1, 2], [3, 4]], None, 0.5)])
    assert measures == {"images": 1, "strength": 0.5}


def test_rows_are_spread_over_those_of_the_plan_that_have_a_reference():
    plan = pd.DataFrame({"source_key": ["a", "", "b", "c", "d", ""]})
    assert list(choose_rows(plan, 2)["source_key"]) == ["a", "c"]
    assert list(choose_rows(plan, 9)["source_key"]) == ["a", "b", "c", "d"]


def test_the_hottest_pixel_of_an_overlay_is_the_maps_highest():
    scores = np.array([[0.1, 0.2], [0.9, 0.3]])
    shown = np.asarray(overlay(Image.new("RGB", (2, 2), "grey"), scores), int)
    assert shown.sum(2).argmax() == 2


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A checkout after `plan`: four references with masks, no fine-tuning."""
    images = []
    masks = []
    for number, species in enumerate(SPECIES[:4]):
        image, mask = render(species.bird, "land", np.random.default_rng(number), 32)
        images.append(encode_png(Image.fromarray(image)))
        masks.append(encode_png(Image.fromarray(np.uint8(255) * mask)))

    labels = pd.DataFrame({"label": range(4)})
    write_table(tmp_path / "data/download/train", images, labels)
    write_table(tmp_path / "data/download/masks", masks, labels)
    write_classes(tmp_path / "data/download", [species.name for species in SPECIES[:4]], "bird")

    for folder in ("data/subsample", "data/plan", "data/method", "data/finetune"):
        (tmp_path / folder).mkdir()
    train = tmp_path / "data/download/train/manifest.csv"
    (tmp_path / "data/subsample/manifest.csv").write_text(train.read_text())
    (tmp_path / "data/method/finetune.json").write_text('{"strategy": "none"}')
    write_plan(tmp_path, [f"{number:08d}" for number in range(4)])
    (tmp_path / "params.yaml").write_text(
        f"base: {{id: {PIPELINE}, revision: null}}\n"
        "synth: {sampler: dpm-solver++, lcm_lora: {id: null, revision: null}, steps: 4, "
        "guidance_scale: 2.0, guidance_stop: 1.0, cache_interval: null, resolution: 32, "
        "batch: 32}\n"
        "attention: {images: 3}\n"
    )

    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_plan(folder, sources: list[str]) -> None:
    rows = {
        "key": [f"{number:08d}" for number in range(4)],
        "source_key": sources,
        "source_label": range(4),
        "target_label": [1, 2, 3, 0],
        "strength": [0.5, 0.9, 0.5, 0.9],
        "seed": range(4),
    }
    pd.DataFrame(rows).to_csv(folder / "data/plan/plan.csv", index=False)


def run_stage(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["attention", *arguments])
    attention.main()


def test_the_stage_writes_a_sheet_and_the_measures_of_as_many_images_as_asked(project, monkeypatch):
    run_stage(monkeypatch)
    measures = json.loads((project / "metrics/attention.json").read_text())

    assert set(measures) == {"images", "strength", "identifier", "metaclass", "end_of_text"}
    assert measures["images"] == 3
    assert Image.open(project / "metrics/attention.png").size[1] > 3 * 96


def test_equal_settings_give_equal_bytes(project, monkeypatch):
    run_stage(monkeypatch)
    paths = [project / "metrics/attention.json", project / "metrics/attention.png"]
    first = [path.read_bytes() for path in paths]
    run_stage(monkeypatch)

    assert [path.read_bytes() for path in paths] == first


def test_a_plan_without_references_gives_headings_alone(project, monkeypatch):
    write_plan(project, [""] * 4)
    run_stage(monkeypatch)

    assert json.loads((project / "metrics/attention.json").read_text()) == {"images": 0}
    assert Image.open(project / "metrics/attention.png").size[1] < 96


def test_a_dataset_without_masks_gives_no_measures(project, monkeypatch):
    write_table(project / "data/download/masks", [], pd.DataFrame({"label": []}))
    run_stage(monkeypatch)
    measures = json.loads((project / "metrics/attention.json").read_text())

    assert set(measures) == {"images", "strength"}


def test_the_tool_draws_the_pair_that_it_is_asked_for_and_nothing_else(project, monkeypatch):
    run_stage(monkeypatch, "00000001", "Dusk Lorrel", str(project / "pair.png"), "0.5")
    assert 96 < Image.open(project / "pair.png").size[1] < 2 * 96
    assert not (project / "metrics").exists()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"reference": "7"}, "7: is no key of data/download/train/manifest.csv"),
        ({"target": "Dusk Lorel"}, "Dusk Lorel: is no class of .* like 'Dusk Lorrel'"),
        ({"strength": 1.5}, "STRENGTH: 1.5 is not in"),
        ({"output": "pair.xyz"}, "pair.xyz: is no .png in a folder that exists"),
    ],
)
def test_the_tool_refuses_what_it_cannot_draw_in_one_line(project, classes, changed, message):
    right = {"reference": "00000001", "target": "Dusk Lorrel", "strength": 0.7}
    arguments = SimpleNamespace(**right | {"output": "pair.png"} | changed)
    arguments.output = Path(arguments.output)

    with pytest.raises(SystemExit, match=message):
        plan_pair(arguments, classes)
