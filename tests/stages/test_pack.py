"""A trained classifier as a folder that works by itself."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import torch
import yaml
from diffusers import StableDiffusionPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from stages import pack as stage
from stages.shared.errors import BadInput
from stages.shared.serving.cards import Learned, list_classes, write_snippet
from stages.shared.serving.packed import load_packed, predict, prepare
from tests.support.closure import ROOT
from tests.support.hub_server import serve
from tests.support.packed_classifier import BASE, NAMES, SIDE, draw_image, write_arm, write_lock


@pytest.fixture
def network(tmp_path, monkeypatch) -> torch.nn.Module:
    """The second trial's, in a folder that is the working one."""
    monkeypatch.chdir(tmp_path)
    return write_arm(tmp_path)


def run_pack(monkeypatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["pack", *words])
    stage.main()


def read_header(path) -> dict:
    with safe_open(path, "pt") as file:
        return file.metadata()


def test_the_header_of_the_weights_says_all_that_is_needed(network, tmp_path, monkeypatch):
    run_pack(monkeypatch, "diffmix", "packed", "--trial", "1")
    header = json.loads(read_header(tmp_path / "packed/model.safetensors")["config"])

    assert header == json.loads((tmp_path / "packed/config.json").read_text())
    assert header["classes"] == NAMES
    assert (header["architecture"], header["resize"], header["resolution"]) == (
        "small_resnet", 32, SIDE,
    )  # fmt: skip
    assert (header["method"], header["arm"], header["trial"]) == ("Diff-Mix", "diffmix", 1)
    assert header["top1"] == 75.0  # three of four test images, by this trial
    assert header["commit"] == stage.UNKNOWN


def test_a_packed_network_answers_as_the_trained_one(network, tmp_path, monkeypatch):
    run_pack(monkeypatch, "diffmix", "packed", "--trial", "1")
    packed = load_packed(tmp_path / "packed")
    images = [draw_image(seed) for seed in range(3)]
    pixels = torch.stack([prepare(image, packed.config) for image in images])

    assert pixels.shape == (3, 3, SIDE, SIDE)
    with torch.inference_mode():
        expected = network(pixels).softmax(1)
    torch.testing.assert_close(predict(packed, images), expected)


def test_onnx_answers_as_torch_for_any_number_of_images(network, tmp_path, monkeypatch):
    run_pack(monkeypatch, "diffmix", "packed", "--onnx")
    packed = load_packed(tmp_path / "packed")
    session = onnxruntime.InferenceSession(tmp_path / "packed/model.onnx")

    for count in (1, 5):
        images = [draw_image(seed) for seed in range(count)]
        pixels = np.stack([prepare(image, packed.config).numpy() for image in images])
        (answers,) = session.run(None, {"pixels": pixels})
        np.testing.assert_allclose(answers, predict(packed, images).numpy(), atol=1e-5)


def test_the_card_s_lines_for_onnx_answer_as_predict(network, tmp_path, monkeypatch, capsys):
    """The photo has the square's size: libraries resize alike but for a rounding."""
    run_pack(monkeypatch, "diffmix", "birds", "--onnx")
    photo = draw_image(0, (32, 32))
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side, as a telephone's
    photo.transpose(Image.Transpose.ROTATE_90).save("photo.png", exif=exif)

    card = (tmp_path / "birds/README.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    space: dict = {}
    exec(snippet.replace("FOLDER", "birds").replace("IMAGE", "photo.png"), space)

    packed = load_packed(tmp_path / "birds")
    expected = predict(packed, [photo]).numpy()
    np.testing.assert_allclose(space["probabilities"], expected, atol=1e-5)
    assert (
        capsys.readouterr()
        .out.splitlines()[-1]
        .startswith(packed.config.classes[expected[0].argmax()])
    )


def test_without_onnx_the_card_speaks_of_none(network, tmp_path, monkeypatch):
    run_pack(monkeypatch, "diffmix", "packed")
    assert "onnx" not in (tmp_path / "packed/README.md").read_text(encoding="utf-8")


def test_the_card_has_the_measures_and_the_classes(network, tmp_path, monkeypatch):
    run_pack(monkeypatch, "diffmix", "packed")
    card = (tmp_path / "packed/README.md").read_text()

    assert card.startswith("---\nlibrary_name: pytorch\n")
    assert "It tells 3 classes: Dusk Lorrel, Ærø / Quill, Pintle." in card
    assert "top-1 on the test images: 25.00 %" in card
    assert "against the baseline: +5.65 points, 95 % interval +3.57 to +7.50" in card


def test_what_was_trained_is_packed_not_what_params_yaml_says_now(network, tmp_path, monkeypatch):
    params = tmp_path / "params.yaml"
    params.write_text(params.read_text().replace("resolution: 64", "resolution: 16"))
    run_pack(monkeypatch, "diffmix", "packed")
    assert load_packed(tmp_path / "packed").config.resolution == SIDE


def locked(**read: str) -> dict:
    """dvc.lock's stages after a run that was whole, but for the hashes that `train` has `read`."""
    hashes = {"data/method/plan.json": "m", "data/plan": "p", "data/filter": "f"} | read
    reads = [{"path": path, "md5": md5} for path, md5 in hashes.items()]
    return {
        "method": {"outs": [{"path": "data/method/plan.json", "md5": "m"}]},
        "plan": {"deps": reads[:1], "outs": [{"path": "data/plan", "md5": "p"}]},
        "filter": {"deps": reads[1:2], "outs": [{"path": "data/filter", "md5": "f"}]},
        "train@diffmix": {"deps": [*reads[2:], {"path": "stages/train.py", "md5": "c"}]},
    }


@pytest.mark.parametrize(
    ("read", "settled"),
    [
        ({}, True),
        ({"data/filter": "older"}, False),
        ({"data/plan": "older"}, False),
        ({"data/method/plan.json": "older"}, False),
    ],
)
def test_a_run_that_was_broken_off_is_not_settled(read, settled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lock = {"schema": "2.0", "stages": locked(**read)}
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert stage.is_settled("train@diffmix") is settled


def test_in_this_projects_lock_another_method_is_seen(tmp_path, monkeypatch):
    """As after `dvc exp run -S method=diff-aug` that was broken off behind `method`."""
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text())
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert stage.is_settled("train@diffmix")

    (plan,) = (out for out in lock["stages"]["method"]["outs"] if out["path"].endswith("plan.json"))
    plan["md5"] = "0" * 32
    Path("dvc.lock").write_text(yaml.safe_dump(lock))
    assert not stage.is_settled("train@diffmix")


@pytest.mark.parametrize(("content", "settled"), [("label\n", True), ("other\n", False)])
def test_a_file_in_an_output_folder_is_looked_at_itself(content, settled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    known = hashlib.md5(b"label\n").hexdigest()
    lock = {"schema": "2.0", "stages": locked() | {"download": {"outs": [
        {"path": "data/download", "md5": "d.dir"}]}}}  # fmt: skip
    lock["stages"]["plan"]["deps"] = [{"path": "data/download/classes.csv", "md5": known}]
    Path("dvc.lock").write_text(yaml.safe_dump(lock))

    Path("data/download").mkdir(parents=True)
    Path("data/download/classes.csv").write_text(content)
    assert stage.is_settled("train@diffmix") is settled


def test_what_stands_in_no_lock_has_no_method(network, tmp_path, monkeypatch):
    """Another method is resolved by now; the arm is that of before."""
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    lock["stages"]["method"]["outs"] = [{"path": "data/method/plan.json", "md5": "new"}]
    lock["stages"]["train@diffmix"]["deps"] = [{"path": "data/method/plan.json", "md5": "old"}]
    Path("dvc.lock").write_text(yaml.safe_dump(lock))

    run_pack(monkeypatch, "diffmix", "packed")
    assert load_packed(tmp_path / "packed").config.method is None
    assert "\n# small_resnet, arm diffmix\n" in (tmp_path / "packed/README.md").read_text()


def test_an_arm_of_real_images_has_no_method(network, tmp_path, monkeypatch):
    shutil.copytree("data/train/diffmix", "data/train/baseline")
    lock = yaml.safe_load(Path("dvc.lock").read_text())
    lock["stages"]["train_real@baseline"] = lock["stages"]["train@diffmix"]
    Path("dvc.lock").write_text(yaml.safe_dump(lock))

    run_pack(monkeypatch, "baseline", "packed")
    assert load_packed(tmp_path / "packed").config.method is None
    assert "\n# small_resnet, arm baseline\n" in (tmp_path / "packed/README.md").read_text()


def test_an_arm_that_was_not_run_yet_is_refused(network, tmp_path, monkeypatch):
    (tmp_path / "dvc.lock").unlink()
    with pytest.raises(BadInput, match=r"dvc\.lock: knows no stage train@diffmix; run `dvc repro`"):
        run_pack(monkeypatch, "diffmix", "packed")


def test_the_commit_is_that_of_the_last_run(network, tmp_path):
    def git(*words: str) -> None:
        name = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        subprocess.run(["git", *name, *words], capture_output=True, check=True)

    git("init", "-q")
    git("add", "dvc.lock")
    git("commit", "-qm", "a run")
    run = stage.git("rev-parse", "--short=12", "HEAD")
    git("commit", "-qm", "words", "--allow-empty")
    assert stage.locked_commit() == run

    write_lock(tmp_path, **{"finetune.steps": 7})
    assert stage.locked_commit() == f"{run}+"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["difmix", "packed"], "there is no arm 'difmix' among baseline, cutmix, diffmix"),
        (
            ["diffmix", "packed", "--trial", "7"],
            "--trial 7: diffmix has the trials 0 to 1; name one",
        ),
        (["diffmix", "data"], "data: is not an empty folder; name a new one"),
    ],
)
def test_what_cannot_be_packed_is_refused_in_one_line(network, monkeypatch, words, message):
    with pytest.raises(BadInput, match=message):
        run_pack(monkeypatch, *words)


def test_onnx_without_its_packages_is_refused_before_anything_is_written(
    network, tmp_path, monkeypatch
):
    monkeypatch.setattr("stages.shared.serving.onnx.find_spec", lambda _name: None)
    with pytest.raises(BadInput, match="onnx: is not installed; `pip install"):
        run_pack(monkeypatch, "diffmix", "packed", "--onnx")
    assert not (tmp_path / "packed").exists()


@pytest.mark.parametrize("content", [None, b"nothing", b""])
def test_a_folder_that_holds_no_such_weights_is_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(BadInput, match=r"model\.safetensors: .*stages\.pack"):
        load_packed(tmp_path)


def test_plain_weights_are_no_packed_ones(network, tmp_path):
    plain = tmp_path / "data/train/diffmix/trial-0.safetensors"
    plain.rename(tmp_path / "model.safetensors")
    with pytest.raises(BadInput, match=r"is not what `python -m stages\.pack` has written"):
        load_packed(tmp_path)


def test_many_classes_are_counted_not_listed():
    names = [f"class {number}" for number in range(200)]
    assert list_classes(names) == "200 classes"


def learn(folder: Path, lora: bool, tokens: bool) -> None:
    """What stage finetune would leave in data/finetune, of the base that the project ships."""
    learned = folder / "data/finetune"
    (learned / "tokens").mkdir(parents=True)
    pipeline = StableDiffusionPipeline.from_pretrained(BASE)
    width = pipeline.text_encoder.config.hidden_size

    for number in range(len(NAMES) if tokens else 0):
        vector = {f"<class-{number:04d}>": torch.full((width,), float(number))}
        save_file(vector, learned / f"tokens/class-{number:04d}.safetensors")
    if lora:
        pipeline.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"]))
        state = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipeline.unet))
        pipeline.save_lora_weights(learned, state)


@pytest.mark.parametrize(("lora", "tokens"), [(True, True), (True, False), (False, True)])
def test_the_snippet_of_the_models_card_loads_what_was_learned(
    network, tmp_path, monkeypatch, lora, tokens
):
    learn(tmp_path, lora, tokens)
    run_pack(monkeypatch, "finetune", "packed")

    card = (tmp_path / "packed/README.md").read_text()
    snippet = card.split("```python\n")[1].split("```")[0].replace('"FOLDER"', '"packed"')
    snippet = snippet.replace(").images[0]", ", num_inference_steps=1).images[0]")
    space: dict = {}
    exec(snippet, space)

    assert space["image"].size == (64, 64)
    assert ("<class-0002>" in space["pipeline"].tokenizer.get_vocab()) == tokens
    assert ("LoRA of rank 2" in card) == lora
    assert ("a photo of a <class-0000> bird" in card) == tokens
    assert (tmp_path / "packed/classes.csv").read_text().startswith("index,name,metaclass,token\n")


def test_a_base_with_two_text_encoders_gets_a_vector_for_each():
    params = {"base.id": "sdxl", "base.revision": "0" * 40}
    params |= {"finetune.lora_rank": 10, "finetune.steps": 1}
    classes = pd.DataFrame({"name": ["a"], "metaclass": ["bird"], "token": ["<class-0000>"]})
    snippet = write_snippet(Learned(params, "Diff-Mix", True, 2, "abc"), classes)

    compile(snippet, "snippet", "exec")
    assert 'tensors["clip_l"]' in snippet
    assert 'tensors["clip_g"]' in snippet
    assert f'revision="{"0" * 40}"' in snippet


def test_a_method_that_learns_nothing_has_no_model_to_pack(network, monkeypatch):
    with pytest.raises(BadInput, match="data/finetune: holds nothing that was learned"):
        run_pack(monkeypatch, "finetune", "packed")


def test_what_is_packed_goes_to_a_hub_whole_and_private(network, tmp_path, monkeypatch):
    """By Hugging Face's own tool, as the page tells: a card that it refused would stop it."""
    page = (ROOT / "docs/using-the-results.md").read_text()
    command = re.search(r"^\$ (hf upload OWNER/NAME) \S+ (--private)", page, re.MULTILINE)
    assert command, "the page's command"
    run_pack(monkeypatch, "diffmix", "packed")

    with serve() as hub:
        settings = {"HF_ENDPOINT": hub.address, "HF_TOKEN": "hf_none", "HF_HOME": str(tmp_path)}
        _, upload, _ = command[1].split()
        hf = str(Path(sys.executable).with_name("hf"))
        words = [hf, upload, "someone/birds", "packed", command[2]]
        subprocess.run(words, env=os.environ | settings, check=True, capture_output=True)

    packed = {path.name: path.read_bytes() for path in (tmp_path / "packed").iterdir()}
    assert hub.files == {"someone/birds": packed}
    assert hub.private == {"someone/birds": True}
