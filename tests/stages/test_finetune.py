"""finetune trains what it should, nothing else, and writes what diffusers reads."""

import pandas as pd
import pytest
import torch
from diffusers import DDPMScheduler, StableDiffusionPipeline
from PIL import Image
from torch import nn

from stages.finetune import Batch, Learner, TokenEmbedding, diffusion_loss, finetune, row_weights
from stages.shared.diffusion.base_model import load_base, load_finetuned
from stages.shared.diffusion.text import tokenize
from stages.shared.errors import BadInput
from stages.shared.pretrained.reference import Pretrained
from stages.shared.running.processes import processes
from stages.shared.schemas.finetune import Finetune
from stages.shared.watching.tracking import NOWHERE, Tracker, track
from tests.conftest import PIPELINE
from tests.support.launched import launched

BASE = Pretrained(id=PIPELINE, revision=None)


def params(steps: int = 2) -> Finetune:
    return Finetune(
        lora_rank=4, learning_rate=1e-3, token_learning_rate=1e-2, weight_decay=0.01, steps=steps,
        batch=4, class_balanced=True, resolution=32,
    )  # fmt: skip


def learn(
    strategy: str, table, classes, folder, steps: int = 2, tracker: Tracker = NOWHERE
) -> Learner:
    """A learner of this strategy after `steps` steps, with their losses as `losses`."""
    torch.manual_seed(0)
    learner = Learner(load_base(BASE, torch.float32), classes, strategy, params(steps))
    learner.losses = finetune(learner, table, classes, 0, folder / "checkpoint.pt", tracker)
    return learner


def test_new_rows_get_the_gradient_that_a_whole_table_would_give_them():
    whole = nn.Embedding(7, 3)
    table = nn.Embedding.from_pretrained(whole.weight[:5].detach())
    split = TokenEmbedding(table, whole.weight[5:].detach().clone())
    ids = torch.tensor([[0, 5, 6], [6, 4, 5]])
    weights = torch.randn(2, 3, 3)

    (whole(ids) * weights).sum().backward()
    (split(ids) * weights).sum().backward()

    assert torch.equal(split(ids), whole(ids))
    assert torch.equal(split.rows.grad, whole.weight.grad[5:])
    assert split.table.weight.grad is None


def test_only_the_new_rows_of_the_table_move(table, classes, tmp_path):
    before = load_base(BASE, torch.float32).text_encoder.state_dict()

    learner = learn("ti", table, classes, tmp_path)

    after = learner.pipeline.text_encoder.get_input_embeddings()
    name = next(key for key in before if "token_embedding" in key)
    assert torch.equal(after.table.weight, before[name])

    first_word = learner.pipeline.tokenizer("bird", add_special_tokens=False).input_ids[0]
    assert not torch.isclose(after.rows, before[name][first_word]).all(dim=1).any()


@pytest.mark.parametrize(
    ("strategy", "trained"), [("ti", 1), ("db", 2 * 4 * 14), ("ti+db", 2 * 4 * 14 + 1)]
)
def test_each_strategy_trains_its_own_parameters(strategy, trained, classes):
    learner = Learner(load_base(BASE, torch.float32), classes, strategy, params())

    names = [name for name, _ in learner.pipeline.unet.named_modules()]
    blocks = sum(name.endswith(("attn1", "attn2")) for name in names)

    assert blocks == 14  # seven transformer blocks, each with self- and cross-attention
    assert len(learner.parameters) == trained


def test_balanced_weights_draw_all_classes_alike():
    labels = pd.Series([0, 0, 0, 1])
    balanced = row_weights(labels, class_balanced=True)

    assert balanced.tolist() == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1])
    assert row_weights(labels, class_balanced=False).tolist() == [1, 1, 1, 1]


def test_the_result_loads_into_stock_diffusers(table, classes, tmp_path):
    learner = learn("ti+db", table, classes, tmp_path)
    learner.save(tmp_path, classes)

    stock = StableDiffusionPipeline.from_pretrained(
        PIPELINE, dtype=torch.float32, safety_checker=None
    )
    stock.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors")
    for token in classes["token"]:
        stock.load_textual_inversion(tmp_path / f"tokens/{token.strip('<>')}.safetensors")

    prompt = f"a photo of a {classes['token'][1]} bird"
    ids = stock.tokenizer([prompt], return_tensors="pt").input_ids
    latents = torch.randn(1, 16, 8, 8)
    time = torch.tensor([500])
    with torch.no_grad():
        theirs = stock.unet(latents, time, stock.text_encoder(ids)[0]).sample
        ours = learner.pipeline.unet(latents, time, learner.pipeline.text_encoder(ids)[0]).sample

    assert torch.allclose(theirs, ours, atol=1e-5)


def test_our_loader_fuses_to_the_same_function(table, classes, tmp_path):
    learner = learn("ti+db", table, classes, tmp_path)
    learner.save(tmp_path, classes)

    pipeline = load_base(BASE, torch.float32)
    load_finetuned(pipeline, tmp_path)

    prompt = f"a photo of a {classes['token'][2]} bird"
    ids = pipeline.tokenizer([prompt], return_tensors="pt").input_ids
    latents = torch.randn(1, 16, 8, 8)
    time = torch.tensor([500])
    with torch.no_grad():
        fused = pipeline.unet(latents, time, pipeline.text_encoder(ids)[0]).sample
        ours = learner.pipeline.unet(latents, time, learner.pipeline.text_encoder(ids)[0]).sample

    assert torch.allclose(fused, ours, atol=1e-4)


def test_a_resumed_run_equals_an_unbroken_one(table, classes, tmp_path, monkeypatch):
    whole = learn("ti+db", table, classes, tmp_path / "a", steps=4)

    monkeypatch.setenv("DIFFMIX_CHECKPOINT", "0")
    (tmp_path / "b").mkdir()
    learn("ti+db", table, classes, tmp_path / "b", steps=2)
    resumed = learn("ti+db", table, classes, tmp_path / "b", steps=4)

    assert resumed.losses == whole.losses
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters, resumed.parameters, strict=True))


def test_a_checkpoint_that_not_all_processes_see_is_refused(table, classes, tmp_path, monkeypatch):
    """They would sum gradients of different models."""
    monkeypatch.setenv("DIFFMIX_CHECKPOINT", "0")
    learn("db", table, classes, tmp_path)

    def go_on() -> None:
        folder = tmp_path / ("", "elsewhere")[processes().process_index]
        learn("db", table, classes, folder, steps=3)

    with pytest.raises(BadInput, match=r"\.pt: not all processes see the same file"):
        launched(2, go_on)


@pytest.mark.parametrize("prediction", ["v_prediction", "epsilon"])
def test_the_loss_is_that_of_the_bases_prediction_type(prediction, monkeypatch):
    """A UNet that answers with the noise and the image that it was given has no loss.

    v = sqrt(a) noise - sqrt(1 - a) x.
    """
    scheduler = DDPMScheduler(prediction_type=prediction)
    latents = torch.randn(3, 8, 8, 8)
    pipeline = load_base(BASE, torch.float32)

    def answer(pipeline, noisy, times, text):
        root = scheduler.alphas_cumprod[times].sqrt().view(-1, 1, 1, 1)
        noise = (noisy - root * latents) / (1 - root**2).sqrt()
        return noise if prediction == "epsilon" else root * noise - (1 - root**2).sqrt() * latents

    monkeypatch.setattr("stages.finetune.predict", answer)
    ids = tokenize(pipeline, ["a bird"]).expand(3, -1, -1)
    batch = Batch(latents, torch.randn(3, 8, 8, 8), torch.tensor([5, 500, 900]), ids)

    assert diffusion_loss(pipeline, scheduler, batch, [0, 1, 2]) < 1e-8


def test_being_watched_changes_nothing(table, classes, tmp_path, monkeypatch):
    unwatched = learn("ti+db", table, classes, tmp_path / "a", steps=4)

    monkeypatch.setenv("DIFFMIX_TRACK", "dvclive")
    monkeypatch.setenv("DIFFMIX_SAMPLES", "2")
    with track(tmp_path / ".work/finetune/b", {}) as tracker:
        watched = learn("ti+db", table, classes, tmp_path / "b", 4, tracker)

    folder = tmp_path / ".work/track/finetune/b"
    logged = pd.read_csv(folder / "dvclive/plots/metrics/loss.tsv", sep="\t")
    assert logged["loss"].tolist() == pytest.approx(watched.losses)
    assert watched.losses == unwatched.losses
    for mine, theirs in zip(watched.parameters, unwatched.parameters, strict=True):
        assert torch.equal(mine, theirs)

    first, second = (Image.open(folder / f"samples-00000{step}.png") for step in (2, 4))
    assert first.size == (3 * 32, 32)  # a picture a class
    assert first.tobytes() != second.tobytes()
