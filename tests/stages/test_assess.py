"""assess on hand-made images, whose faithfulness and background are known beforehand."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from PIL import Image

from stages import assess
from stages.assess import compare_backgrounds, draw_other, filter_gain, mean_faithful
from stages.datasets.toybirds.species import SPECIES
from stages.datasets.toybirds.tables import draw, draw_toybirds, scene
from stages.download import write_dataset
from stages.shared.errors import BadInput
from stages.shared.manifests import read_manifest
from stages.shared.measuring.inception import inception_features, load_inception
from stages.shared.pretrained.clip import load_clip
from stages.shared.pretrained.reference import Pretrained
from stages.shared.schemas.download import Toybirds
from stages.shared.tables import Table, encode_png, write_csv, write_table
from tests.conftest import CLIP, ROOT

WORLD = Toybirds(train_per_class=2, test_per_class=1, ood_per_group=1, bias=0.9)
IMAGES = 24  # in train


class Made(NamedTuple):
    """A synthetic image that shows training image `shows`.

    It was made from the image `source` (None: from noise) to be of the class `target`.
    """

    shows: int
    source: int | None
    target: int
    strength: float = 0.5
    kept: bool = True


def label(index: int) -> int:
    return scene("train", index, WORLD.bias).label


def picture(index: int) -> np.ndarray:
    return draw("train", index, WORLD.bias)[0]


def faithful(index: int, **changes) -> Made:
    """The training image itself, unchanged."""
    return Made(index, index, label(index))._replace(**changes)


@pytest.fixture
def run(tmp_path: Path, monkeypatch):
    """Writes what assess reads and runs it.

    Returns data/assess/images.csv and metrics/assess.json.
    """
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    Path("data/base").symlink_to(ROOT / "data/base")
    write_dataset(draw_toybirds(WORLD), "bird", Path("data/download"))

    def stage(
        made: list[Made], name: str = "toybirds", frechet: str = "clip"
    ) -> tuple[pd.DataFrame, dict[str, Any]]:
        params = yaml.safe_load((ROOT / "presets/toybirds.yaml").read_text())
        params["data"]["name"] = name
        params["assess"]["frechet"] = frechet
        Path("params.yaml").write_text(yaml.safe_dump(params))
        write_inputs(made)

        assess.main()

        images = pd.read_csv("data/assess/images.csv", dtype={"key": str})
        return images, json.loads(Path("metrics/assess.json").read_text())

    return stage


def write_inputs(made: list[Made]) -> None:
    """The tables of subsample (all of train), synthesize and filter."""
    rows = pd.DataFrame({
        "label": [each.target for each in made],
        "source_key": ["" if each.source is None else f"{each.source:08d}" for each in made],
        "source_label": [-1 if each.source is None else label(each.source) for each in made],
        "target_label": [each.target for each in made],
        "strength": [each.strength for each in made],
        "seed": range(len(made)),
    })  # fmt: skip
    images = [encode_png(Image.fromarray(picture(each.shows))) for each in made]
    write_table(Path("data/synthesize"), images, rows)

    for name in ("subsample", "filter"):
        Path("data", name).mkdir(exist_ok=True)
    write_csv(Path("data/subsample") / "manifest.csv", read_manifest(Path("data/download/train")))

    scored = read_manifest(Path("data/synthesize")).assign(score=0.25)
    kept = np.array([each.kept for each in made])
    write_csv(Path("data/filter") / "manifest.csv", scored[kept])
    write_csv(Path("data/filter") / "dropped.csv", scored[~kept])


def test_each_image_has_its_row(run):
    # another bird on another background
    wrong = Made(shows=13, source=0, target=(label(13) + 1) % 12, strength=0.7, kept=False)
    from_noise = Made(shows=13, source=None, target=label(13), strength=1.0)

    images, _ = run([faithful(0), wrong, from_noise, faithful(13)])

    assert list(images.columns) == assess.IMAGE_COLUMNS
    assert images["key"].tolist() == ["00000000", "00000001", "00000002", "00000003"]
    assert images["kept"].tolist() == [1, 0, 1, 1]
    assert images["score"].tolist() == [0.25] * 4
    assert images["faithful"].tolist() == [1, 0, 1, 1]
    assert images["background_kept"].tolist()[:2] == [1, 0]

    for column in ("background_error", "background_kept"):
        assert images[column].isna().tolist() == [0, 0, 1, 0]

    outside = ~draw("train", 0, WORLD.bias)[1]
    difference = np.abs(picture(13).astype(int) - picture(0))[outside].mean()
    assert images["background_error"].tolist()[:2] == [0, pytest.approx(difference, abs=0.005)]


def test_the_summary_counts_by_strength_and_by_what_the_filter_did(run):
    wrong = (label(0) + 1) % 12
    _, summary = run([
        faithful(0), faithful(1, strength=0.9), faithful(2, strength=0.9), Made(0, 0, wrong, 0.9),
        Made(1, 1, label(0), 0.9, kept=False), faithful(3, strength=0.9, kept=False),
    ])  # fmt: skip

    assert summary["images"] == 6
    assert summary["faithfulness"] == {
        "measure": "judge", "all": 66.67, "kept": 75.0, "dropped": 50.0, "filter_gain": 16.67,
        "strength": {"0.5": 100.0, "0.9": 60.0},
    }  # fmt: skip
    assert summary["background"]["kept"] == {"all": 100.0, "strength": {"0.5": 100.0, "0.9": 100.0}}
    assert summary["background"]["error"] == {"all": 0.0, "strength": {"0.5": 0.0, "0.9": 0.0}}


def test_the_filter_s_gain_compares_images_of_one_strength():
    """Those dropped are more faithful than those kept: but only since they are of s = 0.9."""
    rows = pd.DataFrame(
        [(0.5, 1, 0), (0.5, 1, 0), (0.5, 1, 0), (0.9, 1, 1), (0.9, 0, 0), (0.9, 0, 1), (1.0, 0, 0)],
        columns=["strength", "kept", "faithful"],
    )

    assert mean_faithful(rows[rows["kept"] == 0], judged=True) == 33.33
    assert mean_faithful(rows[rows["kept"] == 1], judged=True) == 25
    assert filter_gain(rows, judged=True) == 50  # of (1 - 0) and (1 - 1); none is kept of s = 1


def test_what_cannot_be_measured_is_absent(run):
    images, summary = run([Made(0, None, label(0), 1.0), Made(1, None, label(1), 1.0)])

    assert set(summary) == {"images", "faithfulness", "diversity"}
    assert set(summary["faithfulness"]) == {"measure", "all", "kept", "strength"}  # none dropped
    assert set(summary["diversity"]) == {"measure", "train"}  # one image a class
    assert "NaN" not in Path("metrics/assess.json").read_text()
    assert images["background_error"].isna().all()


def test_the_lines_for_the_plots_end_with_all_images(run):
    run([faithful(0, strength=0.9), faithful(1, strength=0.5), faithful(2, strength=0.5)])
    lines = pd.read_csv("metrics/assess.csv", dtype={"strength": str})

    assert list(lines.columns) == assess.LINE_COLUMNS
    assert lines["strength"].tolist() == ["0.5", "0.9", "all"]
    assert lines["images"].tolist() == [2, 1, 3]
    assert lines["faithfulness"].tolist() == [100] * 3
    assert lines["frechet"].isna().all()


def test_copies_of_the_training_images_are_as_diverse_and_at_no_distance(run, monkeypatch):
    monkeypatch.setattr(assess, "FEWEST", IMAGES)
    copies = [faithful(index) for index in range(IMAGES)]

    _, summary = run([*copies, faithful(0, kept=False, strength=0.9)])

    assert summary["diversity"]["all"] == summary["diversity"]["train"] > 0.01

    # 0.9 is absent: none of its images is kept
    assert summary["frechet"] == {"measure": "clip", "all": 0.0, "strength": {"0.5": 0.0}}


def test_images_of_few_classes_are_at_a_distance_from_all_of_them(run, monkeypatch):
    monkeypatch.setattr(assess, "FEWEST", 10)
    _, summary = run([faithful(index % 3) for index in range(10)])
    assert summary["frechet"]["all"] > 0.1


@pytest.mark.parametrize("name", ["folder", "cub", "hub"])
def test_without_a_judge_faithfulness_is_clips_cosine_with_the_classs_name(run, name):
    images, summary = run([faithful(5), faithful(6)], name=name)
    model, processor = load_clip(Pretrained(id=CLIP, revision=None))
    pictures = [Image.fromarray(picture(index)) for index in (5, 6)]
    captions = [f"a photo of a {SPECIES[label(index)].name} bird" for index in (5, 6)]
    with torch.no_grad():
        out = model(**processor(text=captions, images=pictures, return_tensors="pt", padding=True))
    expected = torch.nn.functional.cosine_similarity(out.image_embeds, out.text_embeds).tolist()

    assert images["faithful"].tolist() == pytest.approx(expected, abs=1e-4)
    assert summary["faithfulness"]["measure"] == "clip similarity to the class's name"
    assert summary["faithfulness"]["all"] == pytest.approx(np.mean(expected), abs=1e-4)


def test_the_headline_is_of_all_images(run):
    kept = [faithful(index % 3) for index in range(6)]
    _, summary = run([*kept, Made(3, 0, label(3), kept=False)])

    assert json.loads(Path("metrics/fidelity.json").read_text()) == {
        "faithfulness": summary["faithfulness"]["all"],
        "filter_gain": summary["faithfulness"]["filter_gain"],
        "background_kept": summary["background"]["kept"]["all"],
        "diversity": summary["diversity"]["all"],
    }


def test_equal_inputs_give_equal_bytes(run):
    names = ("data/assess/images.csv", "metrics/assess.csv", "metrics/assess.json")
    kept = Made(2, 1, label(2), 0.9)
    dropped = Made(3, 0, label(3), 0.9, kept=False)

    contents = []
    for _ in range(2):
        run([faithful(0), faithful(1), kept, dropped])
        contents.append([Path(name).read_bytes() for name in names])

    assert contents[0] == contents[1]


def test_a_filter_of_other_images_is_refused(run):
    run([faithful(0), faithful(1)])
    write_csv(Path("data/filter") / "manifest.csv", read_manifest(Path("data/filter")).iloc[:1])
    line = "data/filter: does not list the images of data/synthesize; run"
    with pytest.raises(BadInput, match=line):
        assess.main()


def test_the_other_reference_is_never_the_own_one_and_the_same_at_every_run():
    drawn = [draw_other("b", ["a", "b", "c"], seed) for seed in range(100)]

    assert set(drawn) == {"a", "c"}
    assert drawn == [draw_other("b", ["a", "b", "c"], seed) for seed in range(100)]
    assert draw_other("b", ["b"], 0) is None


def test_backgrounds_are_compared_at_the_synthetic_size(tmp_path):
    reference = np.zeros((8, 16, 3), np.uint8)
    reference[:, 8:] = 100
    mask = np.zeros((8, 16), np.uint8)
    mask[:, :8] = 255  # the black half

    rows = pd.DataFrame({"label": [0]})
    write_table(tmp_path / "train", [encode_png(Image.fromarray(reference))], rows)
    write_table(tmp_path / "masks", [encode_png(Image.fromarray(mask))], rows)
    made = encode_png(Image.new("RGB", (4, 4), (110, 110, 110)))
    write_table(tmp_path / "made", [made], rows.assign(source_key="00000000", seed=0))

    measured = compare_backgrounds(*(Table(tmp_path / name) for name in ("made", "train", "masks")))

    ringing = 5  # Lanczos at the edge between the halves
    assert measured["background_error"].tolist() == pytest.approx([10], abs=ringing)
    assert measured["background_kept"].isna().all()  # there is no other reference


def test_inception_without_its_package_is_refused_with_the_cure(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch_fidelity.feature_extractor_inceptionv3", None)
    line = r"params.yaml: assess.frechet: .*`pip install torch-fidelity`, or set clip$"
    with pytest.raises(BadInput, match=line):
        run([faithful(0)], frechet="inception")


def test_inception_without_its_weights_names_the_file(monkeypatch):
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")

    def refuse(*_arguments, **_options):
        raise OSError("no route to host")

    monkeypatch.setattr(module, "load_state_dict_from_url", refuse)
    line = (
        r"inception's weights cannot be fetched \(no route to host\); "
        r"put .*\.pth into .*/checkpoints/"
    )
    with pytest.raises(BadInput, match=line):
        load_inception()


def test_inception_sees_all_images_in_order_at_one_size(table):
    def network(pixels):
        assert (pixels.dtype, pixels.shape[1:]) == (torch.uint8, (3, 16, 8))
        return (pixels.float().mean(dim=(1, 2, 3))[:, None].repeat(1, 2048),)

    seen = inception_features(table, network, (8, 16))
    means = [np.asarray(table.image(row)).mean() for row in range(6)]
    assert seen[:, 7].tolist() == pytest.approx(means, abs=2)
