"""pretrain's real training, a few steps of it, gives folders that load; the species stay unknown to it."""

import numpy as np
import pytest
import torch

from stages import pretrain
from stages.datasets.toybirds import SPECIES
from stages.datasets.toyscenes import Scenes
from stages.filter import load_clip
from stages.shared.diffusion import Base, load_base


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A base that was trained for two steps on a hundred scenes."""
    folder = tmp_path_factory.mktemp("pretrain")
    few = {name: part | {"steps": 2, "batch": 4} for name, part in pretrain.RECIPE.items() if isinstance(part, dict)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "RECIPE", pretrain.RECIPE | few | {"scenes": 100, "kinds": 10})
        patch.setattr(pretrain, "WORK", folder / "work")
        patch.setattr(pretrain, "HOME", folder / "home")
        pretrain.main()
    return folder / "home"


def test_the_pipeline_draws_an_image(home):
    pipeline = load_base(Base(id=str(home / "pipeline"), revision=None), torch.float32)
    image = pipeline("a photo of a bird", height=32, width=32, num_inference_steps=2).images[0]
    assert np.asarray(image).shape == (32, 32, 3)


def test_the_clip_loads(home):
    model, processor = load_clip(str(home / "clip"), None)
    assert processor(text=["a bird"], return_tensors="pt").input_ids.shape[0] == 1
    assert model.config.vision_config.image_size == 32


def test_each_word_of_the_captions_is_one_token(home):
    tokenizer = load_base(Base(id=str(home / "pipeline"), revision=None), torch.float32).tokenizer
    assert len(tokenizer("a photo of a bird with orange crown", add_special_tokens=False).input_ids) == 8


def test_no_scene_shows_a_species():
    scenes = Scenes(count=10, kinds=300, size=32, seed=0)
    assert not {bird for _, bird in scenes.kinds} & {species.bird for species in SPECIES}


def test_a_scene_is_a_function_of_its_index():
    one, other = Scenes(10, 5, 32, seed=0)[7], Scenes(10, 5, 32, seed=0)[7]
    assert (one[0] == other[0]).all()
    assert one[2] == other[2]
