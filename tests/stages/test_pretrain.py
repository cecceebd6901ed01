"""A few steps of pretrain's real training give folders that load; it never sees the species."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from stages import pretrain
from stages.datasets.toybirds.species import SPECIES
from stages.datasets.toybirds.tables import render_species
from stages.pretraining.autoencoder import redraw, smear
from stages.pretraining.scenes import WITHOUT, BrokenScenes, Scenes
from stages.shared.diffusion.base_model import load_base
from stages.shared.errors import BadInput
from stages.shared.measuring.judge import load_judge, recognised
from stages.shared.pretrained.clip import load_clip
from stages.shared.pretrained.reference import Pretrained
from tests.conftest import ROOT

WEIGHTS = "diffusion_pytorch_model.safetensors"
HASTY: dict[str, dict[str, int]] = {
    "vae": {"batch": 2},
    "unet": {"batch": 4},
    "clip": {"batch": 4, "broken": 10, "smears": 10},
    "judge": {"batch": 4, "images": 24},
}


def run(folder: Path, *arguments: str) -> Path:
    """Make parts, two steps each on a hundred scenes.

    Returns the folder that stands for data/base/toybirds.
    """
    recipe = pretrain.RECIPE | {"scenes": 100, "kinds": 10}
    for name, changes in HASTY.items():
        recipe[name] = recipe[name] | {"steps": 2} | changes

    home = folder / "home"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["pretrain", *arguments])
        patch.setattr(pretrain, "RECIPE", recipe)
        patch.setattr(pretrain, "WORK", folder / "work")
        patch.setattr(pretrain, "TOYBIRDS_BASE", home)
        patch.setattr(pretrain, "PIPELINE", home / "pipeline")
        patch.setattr(pretrain, "VAE_WEIGHTS", home / "pipeline/vae" / WEIGHTS)
        pretrain.main()

    return home


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A whole base, hardly trained."""
    return run(tmp_path_factory.mktemp("pretrain"))


def test_the_pipeline_draws_an_image(home):
    pipeline = load_base(Pretrained(id=str(home / "pipeline"), revision=None), torch.float32)
    image = pipeline("a photo of a bird", num_inference_steps=2).images[0]
    assert np.asarray(image).shape == (64, 64, 3)


def test_the_clip_loads(home):
    model, processor = load_clip(Pretrained(id=str(home / "clip"), revision=None))
    assert processor(text=["a bird"], return_tensors="pt").input_ids.shape[0] == 1
    assert model.config.vision_config.image_size == 64


def test_each_word_of_the_captions_is_one_token(home):
    pipeline = load_base(Pretrained(id=str(home / "pipeline"), revision=None), torch.float32)
    caption = "a photo of a bird with orange crown"

    tokens = pipeline.tokenizer(caption, add_special_tokens=False).input_ids
    assert len(tokens) == len(caption.split()) == 8


def test_no_scene_shows_a_species():
    scenes = Scenes(count=10, kinds=300, size=32, seed=0)
    assert not {bird for _, bird in scenes.kinds} & {species.bird for species in SPECIES}


@pytest.mark.parametrize("scenes", [Scenes(10, 5, 32, seed=0), BrokenScenes(10, 32, seed=0)])
def test_a_scene_is_a_function_of_its_index(scenes):
    one = scenes[7]
    other = scenes[7]

    assert (one.image == other.image).all()
    assert one.captions == other.captions


def test_captions_of_whole_birds_and_of_no_others_name_a_bird_that_is_there():
    for scene in [*(Scenes(60, 5, 32, seed=0)[n] for n in range(60))]:
        assert scene.whole == scene.mask.any()
        assert all(("bird" in text) == scene.whole for text in scene.captions if text != WITHOUT)
        assert scene.whole == (WITHOUT not in scene.captions) or not scene.whole


def test_no_broken_scene_counts_as_whole():
    scenes = BrokenScenes(6, 32, seed=0)
    assert not any(scenes[index].whole for index in range(6))
    assert all(scenes[index].mask.any() for index in range(6))


def test_smears_are_neither_of_their_pictures(home):
    """Every other one is an even blend, which is nearer to both than they are to each other."""
    vae = AutoencoderKL.from_pretrained(home / "pipeline/vae", torch_dtype=torch.float32)
    images = np.stack([Scenes(8, 5, 64, seed=1)[index].image for index in range(8)])
    smears = smear(vae, images, torch.arange(8), seed=0)

    assert smears.shape == images.shape
    assert smears.dtype == np.uint8
    assert len({picture.tobytes() for picture in smears}) == 8
    assert (smears == smear(vae, images, torch.arange(8), seed=0)).all()


def test_what_is_redrawn_is_the_picture_as_the_decoder_sees_it():
    folder = ROOT / "data/base/toybirds/pipeline/vae"
    vae = AutoencoderKL.from_pretrained(folder, torch_dtype=torch.float32)
    images, _ = render_species(6, seed=1)
    redrawn = redraw(vae, images, torch.arange(2, 6), seed=0)

    assert redrawn.shape == images[2:].shape
    errors = np.abs(redrawn.astype(float) - images[2:])
    assert 1 < errors.mean() < 12
    assert np.abs(redrawn.astype(float) - images[:4]).mean() > 3 * errors.mean()


def test_a_part_alone_leaves_the_rest_as_it_is(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    before: dict[str, Any] = {"vae": [{"recipe": {"steps": 7}, "losses": [0.5]}]}
    (home / "recipe.json").write_text(json.dumps(before))

    run(tmp_path, "judge")
    made = json.loads((home / "recipe.json").read_text())

    assert sorted(path.name for path in home.iterdir()) == ["judge", "recipe.json"]
    assert made["vae"] == before["vae"]
    assert [sitting["recipe"]["images"] for sitting in made["judge"]] == [24]
    assert made["judge"][0]["versions"]["torch"] == version("torch")


def test_another_sitting_starts_from_the_weights_and_is_recorded_behind_the_first(tmp_path):
    home = run(tmp_path, "vae")
    first = load_file(home / "pipeline/vae" / WEIGHTS)
    run(tmp_path, "vae", "--continue")
    second = load_file(home / "pipeline/vae" / WEIGHTS)
    fresh = load_file(run(tmp_path / "fresh", "vae") / "pipeline/vae" / WEIGHTS)

    def distance(one, other) -> float:
        return float(sum((one[name].float() - other[name].float()).norm() for name in one))

    assert len(json.loads((home / "recipe.json").read_text())["vae"]) == 2
    assert distance(first, fresh) == 0
    assert 0 < distance(first, second) < 1


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


def test_an_unknown_part_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        run(tmp_path, "jugde")
    assert "there is no part 'jugde'; name vae, unet, clip, judge" in capsys.readouterr().err


def test_a_missing_judge_is_named(tmp_path):
    with pytest.raises(BadInput, match="there is no judge; get it back with `git checkout"):
        load_judge(tmp_path)
