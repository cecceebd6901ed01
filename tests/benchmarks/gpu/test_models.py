"""The networks are Stable Diffusion 1.5's and CLIP's in size; the rivals do the same work."""

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from transformers import CLIPConfig, CLIPModel

from benchmarks.gpu import models, ours, requirements
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.cases.finetuning import load_pixels
from benchmarks.gpu.cases.sameness import finetuning_table
from benchmarks.gpu.cases.translation import make_plan, reference_table
from benchmarks.gpu.cases.unet import count_flops
from benchmarks.gpu.comparing import compare_arrays, compare_images
from benchmarks.gpu.models import make_networks, make_tokenizer
from benchmarks.gpu.rivals import stock
from benchmarks.gpu.rivals.official_finetuning import OfficialLearner
from benchmarks.gpu.sizes import FULL, TINY
from benchmarks.gpu.timing import Budget
from stages.shared.diffusion.text import Text
from stages.shared.diffusion.translation import buckets
from stages.shared.prompts import class_prompts
from stages.shared.tables import encode_png
from tests.support.closure import ROOT, closure, outside_imports


@pytest.fixture(scope="module")
def bench(tmp_path_factory) -> Bench:
    return Bench(TINY, tmp_path_factory.mktemp("bench"), Budget(1000))


def size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def test_the_networks_have_as_many_weights_as_the_hubs():
    with torch.device("meta"):
        networks = make_networks(FULL)
        clip = CLIPModel(CLIPConfig(**FULL.clip))

    assert size(networks["unet"]) == 859_520_964
    assert size(networks["vae"]) == 83_653_863
    assert size(networks["text_encoder"]) == 123_060_480
    assert size(clip) == 151_277_313  # openai/clip-vit-base-patch32


def test_a_pass_of_the_unet_has_the_flops_that_are_known_of_it():
    with torch.device("meta"):
        unet = make_networks(FULL)["unet"]
        text = Text(torch.empty(1, 77, 768))

    pipeline = SimpleNamespace(unet=unet, device=torch.device("meta"))
    assert count_flops(pipeline, text) == pytest.approx(0.803e12, rel=1e-3)


def test_prompts_have_77_tokens_and_new_words_follow_clips_vocabulary():
    tokenizer = make_tokenizer()
    assert len(tokenizer) == 49_408
    tokenizer.add_tokens(["<class-0000>"])

    ids = tokenizer(["a photo of a <class-0000> bird"], padding="max_length").input_ids[0]
    words = tokenizer.convert_ids_to_tokens(ids)
    assert len(ids) == 77
    assert words[1:7] == ["a</w>", "photo</w>", "of</w>", "a</w>", "<class-0000>", "bird</w>"]
    assert ids[5] == 49_408


def test_a_plan_has_equally_many_images_of_each_strength_and_reference(bench):
    table = reference_table(bench)
    plan = make_plan(table, 4, TINY.classes)
    assert plan["strength"].value_counts().to_dict() == {0.5: 4, 0.7: 4, 0.9: 4}
    assert sorted(plan["source_key"]) == table.rows["key"].tolist()


def count_passes(pipeline) -> list[int]:
    """How many images each pass of the pipeline's UNet has, as they are made."""
    passes: list[int] = []
    pipeline.unet.register_forward_hook(lambda _net, given, _made: passes.append(len(given[0])))
    return passes


def test_all_ways_to_translate_take_the_same_steps(bench, tmp_path):
    """Of 4 steps, 2, 2 and 3 at the three strengths, each guided: twice the images."""
    table = reference_table(bench)
    rows = make_plan(table, 2, TINY.classes)
    prompts = class_prompts(bench.classes(), "ti+db")

    pipeline, text = ours.load_translator(bench)
    passes = count_passes(pipeline)
    synth = ours.sampling(bench, 2)
    made = ours.translate(pipeline, text, table, synth, list(buckets(rows, 2)))
    assert passes == [4] * 7
    assert sorted(made) == rows["key"].tolist()

    pipeline = stock.load_fused(models.base(bench), models.finetuned(bench))
    passes = count_passes(pipeline)
    stock.translate(pipeline, text, table, rows, 2, TINY.steps, tmp_path)
    assert passes == [4] * 7
    assert len(list(tmp_path.glob("*.png"))) == 6

    tokens = bench.classes()["token"].tolist()
    pipeline = stock.load_official(models.base(bench), models.finetuned(bench), tokens)
    passes = count_passes(pipeline)
    (tmp_path / "official").mkdir()
    stock.translate_officially(pipeline, prompts, table, rows, TINY.steps, tmp_path / "official")
    assert passes == [2] * 14
    assert len(list((tmp_path / "official").glob("*.png"))) == 6


def test_the_official_steps_change_lora_and_the_new_rows_alone(bench):
    table = finetuning_table(bench)
    learner = OfficialLearner(bench, load_pixels(bench, table))
    residues = [residue.detach().clone() for residue in learner.residues]
    learner.take_steps()

    changed = (learner.embeddings.weight != learner.original).any(1)
    assert len(changed) == 49_408 + TINY.classes
    assert not changed[:49_408].any()
    assert changed[49_408:].any()
    pairs = zip(learner.residues, residues, strict=True)
    assert any((now != before).any() for now, before in pairs)


def test_steps_that_encode_their_images_train_as_well(bench):
    table = finetuning_table(bench)
    course = ours.open_finetuning(bench, table)
    before = [parameter.detach().clone() for parameter in course.learner.parameters]
    encoded: list[int] = []
    course.learner.pipeline.vae.encoder.register_forward_hook(
        lambda _net, given, _made: encoded.append(len(given[0]))
    )

    ours.finetune_online(course, load_pixels(bench, table))
    assert encoded == [TINY.finetune_batch] * TINY.finetune_steps
    pairs = zip(course.learner.parameters, before, strict=True)
    assert any((now != old).any() for now, old in pairs)


def test_the_largest_difference_of_images_is_in_whole_steps():
    pixels = np.full((2, 2, 3), 100, np.uint8)
    other = pixels.copy()
    other[1, 0, 2] = 97
    one, two = (encode_png(Image.fromarray(image)) for image in (pixels, other))

    same = {"same": True, "compared": 2, "largest_difference": 0, "contrast": 0.0}
    assert compare_images({"a": one, "b": two, "c": one}, {"a": one, "b": two}) == same
    differs = {"same": False, "compared": 1, "largest_difference": 3, "contrast": 0.0}
    assert compare_images({"a": one}, {"a": two}) == differs


def test_arrays_differ_by_their_bytes():
    ones = {"a": np.array([0.0, 1.0]), "b": np.array([2.0])}
    others = {"a": np.array([0.0, 1.25]), "b": np.array([2.0])}
    assert compare_arrays(ones, ones)["same"]
    differs = {"same": False, "compared": 2, "largest_difference": 0.25}
    assert compare_arrays(ones, others) == differs


def test_images_have_a_photos_contrast_so_that_their_pngs_are_as_large(bench):
    table = reference_table(bench)
    pipeline, text = ours.load_translator(bench)
    plan = make_plan(table, 1, TINY.classes)
    made = ours.translate(pipeline, text, table, ours.sampling(bench, 1), list(buckets(plan, 1)))
    assert all(np.asarray(Image.open(io.BytesIO(png))).std() > 20 for png in made.values())


def test_the_packages_that_are_asked_for_are_those_that_are_imported():
    own = {path.relative_to(ROOT).as_posix() for path in (ROOT / "benchmarks/gpu").rglob("*.py")}
    needed = outside_imports({file for path in own for file in closure(path)})
    assert {name.split(".")[0] for name in requirements.PACKAGES} == needed


def test_a_package_that_is_not_there_is_named_as_pip_calls_it(monkeypatch):
    monkeypatch.setattr(requirements, "is_here", lambda name: name not in ("PIL", "peft"))
    assert requirements.missing() == ["peft", "pillow"]
    monkeypatch.undo()
    assert requirements.missing() == []
    assert not requirements.is_here("nowhere.at_all")
