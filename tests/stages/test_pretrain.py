"""A few steps of pretrain's real training give folders that load; it never sees the species."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stages import pretrain
from stages.datasets.toybirds.drawing import SPECIES
from stages.datasets.toybirds.tables import render_species
from stages.pretraining.scenes import Scenes
from stages.shared.diffusion.base_model import load_base
from stages.shared.errors import BadInput
from stages.shared.measuring.judge import load_judge, recognised
from stages.shared.pretrained.clip import load_clip
from stages.shared.pretrained.reference import Pretrained
from tests.conftest import ROOT

HASTY = {"images": 24, "epochs": 1}  # the judge's


def run(folder: Path, *parts: str) -> Path:
    """Make the parts, two steps each on a hundred scenes.

    Returns the folder that stands for data/base/toybirds.
    """
    recipe = pretrain.RECIPE | {"scenes": 100, "kinds": 10}
    for name, part in pretrain.RECIPE.items():
        if isinstance(part, dict):
            recipe[name] = part | {"steps": 2, "batch": 4}
    recipe["judge"] |= HASTY

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["pretrain", *parts])
        patch.setattr(pretrain, "RECIPE", recipe)
        patch.setattr(pretrain, "WORK", folder / "work")
        patch.setattr(pretrain, "TOYBIRDS_BASE", folder / "home")
        pretrain.main()

    return folder / "home"


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A whole base, hardly trained."""
    return run(tmp_path_factory.mktemp("pretrain"))


def test_the_pipeline_draws_an_image(home):
    pipeline = load_base(Pretrained(id=str(home / "pipeline"), revision=None), torch.float32)
    image = pipeline("a photo of a bird", height=32, width=32, num_inference_steps=2).images[0]
    assert np.asarray(image).shape == (32, 32, 3)


def test_the_clip_loads(home):
    model, processor = load_clip(Pretrained(id=str(home / "clip"), revision=None))
    assert processor(text=["a bird"], return_tensors="pt").input_ids.shape[0] == 1
    assert model.config.vision_config.image_size == 32


def test_each_word_of_the_captions_is_one_token(home):
    pipeline = load_base(Pretrained(id=str(home / "pipeline"), revision=None), torch.float32)
    caption = "a photo of a bird with orange crown"

    tokens = pipeline.tokenizer(caption, add_special_tokens=False).input_ids
    assert len(tokens) == len(caption.split()) == 8


def test_no_scene_shows_a_species():
    scenes = Scenes(count=10, kinds=300, size=32, seed=0)
    assert not {bird for _, bird in scenes.kinds} & {species.bird for species in SPECIES}


def test_a_scene_is_a_function_of_its_index():
    one = Scenes(10, 5, 32, seed=0)[7]
    other = Scenes(10, 5, 32, seed=0)[7]

    assert (one[0] == other[0]).all()
    assert one[2] == other[2]


def test_the_judge_alone_leaves_the_rest_as_it_is(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    before: dict[str, Any] = {
        "recipe": {"vae": {"steps": 7}},
        "versions": {"vae": {"torch": "1"}},
        "losses": {"vae": [0.5]},
    }
    (home / "recipe.json").write_text(json.dumps(before))

    run(tmp_path, "judge")
    made = json.loads((home / "recipe.json").read_text())

    assert sorted(path.name for path in home.iterdir()) == ["judge", "recipe.json"]
    assert set(made) == set(before)
    for name, part in before.items():
        assert made[name]["vae"] == part["vae"]
    assert made["recipe"]["judge"]["images"] == HASTY["images"]
    assert made["versions"]["judge"]["torch"] == version("torch")


def test_the_judge_is_made_twice_alike(home, tmp_path):
    again = run(tmp_path, "judge")
    one, other = ((folder / "judge/model.safetensors").read_bytes() for folder in (home, again))
    assert one == other


def test_a_saved_judge_loads_as_it_was(home):
    images, _ = render_species(24, seed=3)
    judge = load_judge(home / "judge")
    loaded = torch.from_numpy(images).permute(0, 3, 1, 2)
    with torch.inference_mode():
        answers = judge.network(loaded).argmax(1).numpy()

    assert (recognised(judge, images) == answers).all()
    assert not judge.network.training


def test_the_shipped_judge_knows_the_species_on_fresh_birds():
    judge = load_judge(ROOT / "data/base/toybirds/judge")
    images, labels = render_species(240, seed=4)
    assert (recognised(judge, images) == labels).mean() > 0.99


def test_the_judge_sees_larger_images_at_its_own_size():
    judge = load_judge(ROOT / "data/base/toybirds/judge")
    images, labels = render_species(24, seed=5)
    doubled = images.repeat(2, axis=1).repeat(2, axis=2)
    assert (recognised(judge, doubled) == labels).mean() > 0.9


def test_an_unknown_part_is_refused(tmp_path):
    with pytest.raises(BadInput, match="there is no part 'jugde'; name base or judge"):
        run(tmp_path, "jugde")


def test_a_missing_judge_is_named(tmp_path):
    with pytest.raises(BadInput, match="there is no judge; get it back with `git checkout"):
        load_judge(tmp_path)
