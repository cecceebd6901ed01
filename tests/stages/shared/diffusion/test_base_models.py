"""Stable Diffusion and SDXL behind one interface.

Both agree with diffusers' own pipelines, learn, and load again.
"""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import httpx2
import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from huggingface_hub.errors import GatedRepoError, RevisionNotFoundError
from safetensors.torch import load_file

from stages.finetune import Learner, finetune
from stages.shared.diffusion.attention_maps import class_prompt_weights, record_attention
from stages.shared.diffusion.base_model import check_resolution, load_base, load_finetuned
from stages.shared.diffusion.sampling import Sampling
from stages.shared.diffusion.text import Text, encode, encode_prompts, predict, tokenize
from stages.shared.diffusion.translation import (
    References,
    draw_noise,
    translate,
    translate_latents,
)
from stages.shared.pretrained.files import missing, pipeline_files
from stages.shared.pretrained.reference import Pretrained
from stages.shared.running.runtime import (
    device,
    hardware,
    saves_memory,
    seed_everything,
    training_precision,
)
from stages.shared.schemas.finetune import Finetune
from tests.support.sampling import PLAIN
from tests.support.tiny_models import save_tiny

FAMILIES = ("sd", "sdxl")
STOCK = {"sd": StableDiffusionPipeline, "sdxl": StableDiffusionXLPipeline}
IMG2IMG = {"sd": StableDiffusionImg2ImgPipeline, "sdxl": StableDiffusionXLImg2ImgPipeline}
SAMPLING = Sampling(**PLAIN, steps=6, guidance_scale=3.0, resolution=32, batch=4)
PROMPTS = ["a photo of a bird on water", "a photo of a bird with red crown"]


@pytest.fixture(scope="module")
def homes(tmp_path_factory) -> dict[str, Path]:
    return {family: save_tiny(tmp_path_factory.mktemp(family), family) for family in FAMILIES}


def base(folder: Path) -> Pretrained:
    return Pretrained(id=str(folder), revision=None)


@pytest.fixture(params=FAMILIES)
def family(request) -> str:
    return request.param


@pytest.fixture
def pipeline(homes, family):
    return load_base(base(homes[family]), torch.float32)


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def pixels(image) -> np.ndarray:
    return np.asarray(image, int)


def generate(pipeline, text: Text, sampling: Sampling = SAMPLING) -> torch.Tensor:
    """Two images from noise, bytes (2, side, side, 3)."""
    draws = generators(2)
    noise = draw_noise(pipeline, sampling.resolution, draws, torch.float32)
    return translate_latents(pipeline, None, noise, text, 1.0, sampling, draws)


def test_translation_agrees_with_the_familys_own_image_to_image_pipeline(pipeline, family, table):
    keys = ["00000000", "00000003"]
    rows = pd.DataFrame({"source_key": keys, "seed": [0, 1]})
    start = References(pipeline, table, SAMPLING).start(rows)
    ours = translate(pipeline, start, encode_prompts(pipeline, PROMPTS), 0.7, SAMPLING)

    extra = {"requires_safety_checker": False} if family == "sd" else {"add_watermarker": False}
    stock = IMG2IMG[family](**pipeline.components, **extra)
    stock.set_progress_bar_config(disable=True)
    for seed, key in enumerate(keys):
        theirs = stock(
            PROMPTS[seed], image=table.image(int(key)), strength=0.7,
            num_inference_steps=SAMPLING.steps, guidance_scale=SAMPLING.guidance_scale,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]  # fmt: skip
        assert np.abs(pixels(ours[seed]) - pixels(theirs)).max() <= 1


@pytest.mark.parametrize("guidance", [3.0, 1.0])
def test_generation_agrees_with_the_familys_own_text_to_image_pipeline(pipeline, guidance):
    sampling = SAMPLING.model_copy(update={"guidance_scale": guidance})
    text = encode_prompts(pipeline, PROMPTS)
    ours = generate(pipeline, text, sampling)

    for seed, prompt in enumerate(PROMPTS):
        theirs = pipeline(
            prompt, height=32, width=32,
            num_inference_steps=SAMPLING.steps, guidance_scale=guidance,
            generator=torch.Generator().manual_seed(seed),
        ).images[0]  # fmt: skip
        assert np.abs(pixels(ours[seed]) - pixels(theirs)).max() <= 1


def params(steps: int) -> Finetune:
    return Finetune(
        lora_rank=2, learning_rate=1e-2, token_learning_rate=1e-2, weight_decay=0.01,
        steps=steps, batch=4, class_balanced=True, resolution=32,
    )  # fmt: skip


def learn(
    home: Path, table, classes, work: Path, steps: int = 3, dtype=torch.float32
) -> tuple[Learner, list[float]]:
    """A learner of all that can be learned, and its losses."""
    torch.manual_seed(0)
    learner = Learner(load_base(base(home), dtype), classes, "ti+db", params(steps))
    return learner, finetune(learner, table, classes, seed=0, checkpoint=work / "checkpoint.pt")


def unet_output(pipeline, prompt: str, latents: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        text = encode(pipeline, tokenize(pipeline, [prompt]))
        return predict(pipeline, latents, torch.tensor([500]), text)


def test_what_was_learned_loads_into_our_pipeline_and_into_diffusers_own(
    homes, family, table, classes, tmp_path
):
    learner, _ = learn(homes[family], table, classes, tmp_path)
    learner.save(tmp_path, classes)

    token = classes["token"][1]
    latents = torch.randn(1, 4, 16, 16)
    prompt = f"a photo of a {token} bird"
    expected = unet_output(learner.pipeline, prompt, latents)

    ours = load_base(base(homes[family]), torch.float32)
    untrained = unet_output(ours, "a photo of a bird bird", latents)
    load_finetuned(ours, tmp_path)
    assert torch.allclose(unet_output(ours, prompt, latents), expected, atol=1e-4)
    assert not torch.allclose(untrained, expected, atol=1e-2)

    stock = STOCK[family].from_pretrained(homes[family], dtype=torch.float32)
    stock.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors")
    rows = load_file(tmp_path / f"tokens/{token.strip('<>')}.safetensors")
    if family == "sd":
        stock.load_textual_inversion(rows)
    else:  # as diffusers' documentation loads SDXL's embeddings
        first = {"text_encoder": stock.text_encoder, "tokenizer": stock.tokenizer}
        second = {"text_encoder": stock.text_encoder_2, "tokenizer": stock.tokenizer_2}
        stock.load_textual_inversion(rows["clip_l"], token=token, **first)
        stock.load_textual_inversion(rows["clip_g"], token=token, **second)

    assert torch.allclose(unet_output(stock, prompt, latents), expected, atol=1e-4)


def test_every_text_encoder_learns_its_own_row_of_a_token(homes, table, classes, tmp_path):
    learner, _ = learn(homes["sdxl"], table, classes, tmp_path)
    assert len(learner.embeddings) == 2

    for embedding in learner.embeddings:
        word = learner.pipeline.tokenizer("bird", add_special_tokens=False).input_ids[0]
        assert (embedding.rows - embedding.table.weight[word]).abs().max() > 1e-3


def test_a_base_in_bf16_is_taught_in_fp32(homes, family, table, classes, tmp_path):
    (tmp_path / "half").mkdir()
    _, losses = learn(homes[family], table, classes, tmp_path)
    learner, half = learn(homes[family], table, classes, tmp_path / "half", dtype=torch.bfloat16)

    assert {parameter.dtype for parameter in learner.parameters} == {torch.float32}
    assert learner.pipeline.unet.conv_in.weight.dtype == torch.bfloat16
    assert half == pytest.approx(losses, rel=0.02)
    assert half != losses


@pytest.mark.parametrize("where", ["cpu", "cuda"])
@pytest.mark.parametrize("native", [True, False])
@pytest.mark.parametrize("named", [None, "fp32", "bf16", "fp16"])
def test_fine_tuning_never_runs_in_fp16(monkeypatch, where, native, named):
    """Where a precision that trains is named, in that; else in bf16 on a GPU that has it."""
    monkeypatch.setattr("stages.shared.running.runtime.device", lambda: torch.device(where))
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: native)
    monkeypatch.delenv("DIFFMIX_PRECISION", raising=False)
    if named:
        monkeypatch.setenv("DIFFMIX_PRECISION", named)

    in_bf16 = named == "bf16" or (named in (None, "fp16") and where == "cuda" and native)
    assert training_precision() == (torch.bfloat16 if in_bf16 else torch.float32)


@pytest.mark.parametrize(
    ("gigabytes", "asked", "saves"),
    [(8, None, True), (24, None, False), (24, "1", True), (8, "0", False), (None, None, False)],
)
def test_small_gpus_save_memory_and_who_asks_for_it(gigabytes, asked, saves, monkeypatch):
    """None: no GPU."""
    total = SimpleNamespace(total_memory=(gigabytes or 0) << 30)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: total)
    where = torch.device("cuda" if gigabytes else "cpu")
    monkeypatch.setattr("stages.shared.running.runtime.device", lambda: where)
    monkeypatch.delenv("DIFFMIX_SAVE_MEMORY", raising=False)
    if asked:
        monkeypatch.setenv("DIFFMIX_SAVE_MEMORY", asked)

    assert saves_memory() is saves


def test_saved_memory_is_part_of_what_moves_last_bits(monkeypatch):
    plain = hardware()
    monkeypatch.setenv("DIFFMIX_SAVE_MEMORY", "1")
    assert hardware() == f"{plain} saving"


def test_stable_diffusion_saves_memory_where_asked_to(homes, monkeypatch):
    monkeypatch.setenv("DIFFMIX_SAVE_MEMORY", "1")
    pipeline = load_base(base(homes["sd"]), torch.float16)

    assert pipeline.unet.is_gradient_checkpointing
    assert pipeline.vae.use_slicing
    assert pipeline.vae.dtype == torch.float16  # SDXL's alone overflows


def test_sdxl_saves_memory_and_learns_the_same(homes, table, classes, tmp_path, monkeypatch):
    """To rounding: an image by itself is encoded with other sums than a batch."""
    learner, saving = learn(homes["sdxl"], table, classes, tmp_path / "saving")
    assert learner.pipeline.unet.is_gradient_checkpointing
    assert learner.pipeline.vae.use_slicing

    monkeypatch.setattr("stages.shared.diffusion.base_model.fit_into_memory", lambda pipeline: None)
    learner, plain = learn(homes["sdxl"], table, classes, tmp_path / "plain")
    assert not learner.pipeline.unet.is_gradient_checkpointing
    assert not learner.pipeline.vae.use_slicing

    assert saving == pytest.approx(plain, rel=1e-5)


def test_sdxls_autoencoder_stays_in_fp32_where_the_rest_is_in_fp16(homes):
    for family, expected in (("sd", torch.float16), ("sdxl", torch.float32)):
        pipeline = load_base(base(homes[family]), torch.float16)
        assert (pipeline.unet.dtype, pipeline.vae.dtype) == (torch.float16, expected)


def test_attention_is_recorded_in_both_families(pipeline, classes):
    words = class_prompt_weights(pipeline.tokenizer, classes, "none")
    text = encode_prompts(pipeline, PROMPTS)

    with record_attention(pipeline, words[:2], 32) as record:
        generate(pipeline, text)

    maps = record.maps()
    assert maps.shape == (2, 3, 16, 16)
    assert (maps > 0).all()


def test_a_pipeline_of_another_kind_is_refused_before_it_is_loaded(tmp_path):
    (tmp_path / "model_index.json").write_text(json.dumps({"_class_name": "FluxPipeline"}))

    reason = r"is a FluxPipeline; take one of StableDiffusionPipeline, StableDiff"
    with pytest.raises(SystemExit, match=reason):
        load_base(base(tmp_path))


@pytest.mark.parametrize(
    "lost",
    [
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder_2/model.safetensors",
        "scheduler/scheduler_config.json",
        "vae/config.json",
    ],
)
def test_a_folder_that_lacks_a_file_is_refused_by_its_name(homes, tmp_path, lost):
    folder = shutil.copytree(homes["sdxl"], tmp_path / "base")
    (folder / lost).unlink()

    reason = rf"params.yaml: base.id: '.*base' lacks {lost}; put that there"
    with pytest.raises(SystemExit, match=reason):
        load_base(base(folder))


def test_large_weights_may_lie_in_several_files(homes, tmp_path):
    folder = shutil.copytree(homes["sd"], tmp_path / "base")
    wanted = pipeline_files(json.loads((folder / "model_index.json").read_text()))
    assert missing(folder, wanted) == []

    weights = folder / "unet/diffusion_pytorch_model.safetensors"
    weights.rename(folder / "unet/diffusion_pytorch_model.safetensors.index.json")
    assert missing(folder, wanted) == []


MODEL = Pretrained(id="owner/model", revision="0" * 40)


@pytest.fixture
def offline(monkeypatch, tmp_path) -> Path:
    """The folder of MODEL's commit in a cache, without a network."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path / "models--owner--model/snapshots" / MODEL.revision


def test_without_a_network_one_line_says_which_files_to_put_where(offline, capfd):
    with pytest.raises(SystemExit) as stopped:
        load_base(MODEL)

    line = str(stopped.value)
    assert "\n" not in line
    assert "'owner/model' is not whole in the cache" in line
    included = (
        "'*.json' '*.txt' 'text_encoder/model.safetensors' "
        "'unet/diffusion_pytorch_model.safetensors' 'vae/diffusion_pytorch_model.safetensors'"
    )
    command = f"hf download owner/model --revision {'0' * 40} --include {included}"
    assert f"`{command} --local-dir FOLDER`" in line
    assert "unet/config.json" in line
    assert capfd.readouterr() == ("", "")


def test_a_cache_that_is_whole_needs_no_network(homes, family, offline):
    shutil.copytree(homes[family], offline)
    cached = load_base(MODEL, torch.float32)
    original = load_base(base(homes[family]), torch.float32)

    assert torch.equal(cached.unet.conv_in.weight, original.unet.conv_in.weight)


def test_a_cache_that_lacks_a_file_is_said_with_it(homes, offline):
    shutil.copytree(homes["sd"], offline)
    (offline / "unet/diffusion_pytorch_model.safetensors").unlink()

    reason = r"hf download .*; missing: unet/diffusion_pytorch_model.safetensors$"
    with pytest.raises(SystemExit, match=reason):
        load_base(MODEL)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            GatedRepoError,
            "'owner/model' asks for a login; accept its terms on the hub, then `hf auth login`",
        ),
        (
            RevisionNotFoundError,
            r"cannot be loaded \(Revision Not Found for url: x\); name a folder or a hub id",
        ),
    ],
)
def test_the_hubs_own_reason_is_told(error, said, monkeypatch):
    response = httpx2.Response(404, request=httpx2.Request("GET", "http://hub"))

    def refuse(*_, **__):
        message = "404 Client Error. (Request ID: a)\n\nRevision Not Found for url: x"
        raise error(message, response=response)

    monkeypatch.setattr("stages.shared.pretrained.files.hf_hub_download", refuse)
    with pytest.raises(SystemExit, match=said):
        load_base(MODEL)


def test_noise_of_another_kind_is_refused(homes, tmp_path):
    folder = shutil.copytree(homes["sdxl"], tmp_path / "base")
    config = json.loads((folder / "vae/config.json").read_text()) | {"latents_mean": [0.0] * 4}
    (folder / "vae/config.json").write_text(json.dumps(config))

    with pytest.raises(SystemExit, match="scales its latents or its noise in a way of its own"):
        load_base(base(folder))


def test_a_device_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("DIFFMIX_DEVICE", "cuda:99")

    with pytest.raises(SystemExit, match="DIFFMIX_DEVICE: 'cuda:99' is no device here"):
        device()


@pytest.fixture
def determinism():
    yield
    torch.use_deterministic_algorithms(True, warn_only=True)


@pytest.mark.parametrize(
    ("where", "asked", "enabled", "warns"),
    [
        ("cpu", "1", True, True),
        ("cpu", "0", True, True),
        ("cuda", "1", True, False),
        ("cuda", "0", False, False),
    ],
)
def test_a_gpu_refuses_what_differs_from_run_to_run(
    where, asked, enabled, warns, monkeypatch, determinism
):
    """Attention's backward is deterministic on a GPU only where torch may not merely warn."""
    monkeypatch.setattr("stages.shared.running.runtime.device", lambda: torch.device(where))
    monkeypatch.setenv("DIFFMIX_DETERMINISTIC", asked)

    seed_everything(0)
    assert torch.are_deterministic_algorithms_enabled() == enabled
    assert torch.is_deterministic_algorithms_warn_only_enabled() == warns


def test_a_resolution_need_not_be_halved_evenly_by_the_unet(homes):
    """As with 224 of the official scripts, which is 28 latents a side, then 14, 7 and 4."""
    pipeline = load_base(base(homes["sd"]), torch.float32)
    check_resolution(pipeline, 34, "synth.resolution")

    sampling = SAMPLING.model_copy(update={"resolution": 34})
    text = encode_prompts(pipeline, PROMPTS)
    assert generate(pipeline, text, sampling).shape == (2, 34, 34, 3)

    reason = r"params.yaml: synth.resolution: 33 is not a multiple of 2"
    with pytest.raises(SystemExit, match=reason):
        check_resolution(pipeline, 33, "synth.resolution")
