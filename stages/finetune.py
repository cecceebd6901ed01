"""Teach the base model the classes: Textual Inversion, DreamBooth with LoRA, or both.

Reads:  data/subsample/manifest.csv, data/download/{train,classes.csv}, data/method/finetune.json,
        the base model
Writes: data/finetune/{pytorch_lora_weights.safetensors,tokens/<class-0000>.safetensors} in
        diffusers' own formats, data/finetune/losses.csv
Paper:  Sec. 3.3, Eq. 1
"""

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn

from stages.shared.diffusion.base_model import (
    LORA_FILE,
    TOKENS_FOLDER,
    Pipeline,
    check_resolution,
    encode_moments,
    load_base,
    token_keys,
)
from stages.shared.diffusion.compiling import compile_unet
from stages.shared.diffusion.text import encode, encoders, predict, tokenize
from stages.shared.diffusion.watching import Watcher
from stages.shared.errors import BadInput
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.methods import Strategy, learns_lora, learns_tokens, read_strategy
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, FINETUNE, METHOD, SUBSAMPLE
from stages.shared.prompts import class_prompts
from stages.shared.running.checkpoint import load_checkpoint, save_checkpoint
from stages.shared.running.forks import Partner, forks, in_two
from stages.shared.running.inputs import run
from stages.shared.running.processes import (
    check_agreement,
    common_folder,
    launch,
    processes,
    share,
    sum_gradients,
)
from stages.shared.running.runtime import (
    checkpoint_seconds,
    compiles,
    hardware,
    seed_everything,
    to_device,
    training_precision,
)
from stages.shared.running.work import model_folder, publish, work_key
from stages.shared.schemas.finetune import Finetune, Params
from stages.shared.tables import Table
from stages.shared.watching.progress import Progress
from stages.shared.watching.tracking import NOWHERE, Tracker, check_tracking, track

LORA_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]  # every attention projection of the UNet


class TokenEmbedding(nn.Module):
    """A frozen embedding table with new trainable rows behind it; only these get gradients."""

    def __init__(self, table: nn.Embedding, rows: Tensor):
        super().__init__()
        self.table = table
        self.rows = nn.Parameter(rows)

    def forward(self, ids: Tensor) -> Tensor:
        known = self.table.num_embeddings
        new = F.embedding((ids - known).clamp(min=0), self.rows).to(self.table.weight.dtype)
        return torch.where((ids >= known)[..., None], new, self.table(ids.clamp(max=known - 1)))


def add_tokens(pipeline: Pipeline, classes: pd.DataFrame) -> list[TokenEmbedding]:
    """Give each class a token in each text encoder, which starts as its metaclass's first word."""
    added = []
    for tokenizer, encoder in encoders(pipeline):
        table = encoder.get_input_embeddings()

        words = []
        for metaclass in classes["metaclass"]:
            words.append(tokenizer(metaclass, add_special_tokens=False).input_ids[0])
        tokenizer.add_tokens(classes["token"].tolist())

        embedding = TokenEmbedding(table, table.weight[words].detach().clone().float())
        encoder.set_input_embeddings(embedding)
        added.append(embedding)

    return added


def add_lora(unet: UNet2DConditionModel, rank: int) -> list[nn.Parameter]:
    """Add low-rank residues to all attention projections (Hu et al., 2022); returns them."""
    config = LoraConfig(
        r=rank, target_modules=LORA_TARGETS, lora_alpha=rank, init_lora_weights="gaussian"
    )
    unet.add_adapter(config)
    residues = [parameter for parameter in unet.parameters() if parameter.requires_grad]

    # fp32 also where the base is in bf16: the optimiser's steps are too small for bf16
    for residue in residues:
        residue.data = residue.data.float()

    return residues


class Examples(NamedTuple):
    """What the loop draws from: all images, and behind them all mirror images."""

    means: Tensor  # of their latents, unscaled (2n, c, h, w)
    deviations: Tensor  # (2n, c, h, w)
    ids: Tensor  # of their prompts' tokens, (2n, encoders, length)
    weights: Tensor  # how likely each is drawn, (2n,), up to a common factor


class Batch(NamedTuple):
    """What one step has drawn, the first dimension being its rows."""

    latents: Tensor
    noise: Tensor
    times: Tensor
    ids: Tensor


def draw_batch(
    examples: Examples, size: int, scaling: float, times: int, generator: torch.Generator
) -> Batch:
    """Latents are samples of their posteriors, times scaling; one of `times` is drawn for each."""
    rows = torch.multinomial(examples.weights, size, replacement=True, generator=generator)
    means = examples.means[rows]
    spread = torch.randn(means.shape, generator=generator)
    latents = (means + examples.deviations[rows] * spread) * scaling

    noise = torch.randn(means.shape, generator=generator)
    drawn = torch.randint(times, (size,), generator=generator)
    return Batch(latents, noise, drawn, examples.ids[rows])


def diffusion_loss(pipeline, scheduler: DDPMScheduler, batch: Batch, mine: list[int]) -> Tensor:
    """Eq. 1, for noise or velocity prediction, whichever the base was trained for.

    It is what the rows `mine` add to the batch's mean.
    """
    share_of_batch = len(mine) / len(batch.latents)
    latents, noise, times = (to_device(part[mine], pipeline.device) for part in batch[:3])
    # on the CPU: how many there are is something that a GPU would have to be waited for
    unique = batch.ids[mine].unique(dim=0, return_inverse=True)
    prompts, places = (to_device(part, pipeline.device) for part in unique)
    noisy = scheduler.add_noise(latents, noise, times).contiguous(memory_format=torch.channels_last)

    # the frozen weights' type decides; what is learned is fp32 in any case
    frozen = pipeline.unet.conv_in.weight.dtype
    with torch.autocast(pipeline.device.type, frozen, enabled=frozen != torch.float32):
        text = encode(pipeline, prompts).rows(places)
        predicted = predict(pipeline, noisy, times, text).float()

    velocity = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(latents, noise, times) if velocity else noise
    return share_of_batch * F.mse_loss(predicted, target)


class Learner:
    """The model's new parameters with their optimiser: how they are trained, kept and written."""

    def __init__(
        self, pipeline: Pipeline, classes: pd.DataFrame, strategy: Strategy, params: Finetune
    ):
        self.pipeline = pipeline
        self.strategy = strategy
        self.params = params
        self.embeddings = add_tokens(pipeline, classes) if learns_tokens(strategy) else []

        groups: list[dict] = []
        if self.embeddings:
            rows = [embedding.rows for embedding in self.embeddings]
            groups.append({"params": rows, "lr": params.token_learning_rate})
        if learns_lora(strategy):
            residues = add_lora(pipeline.unet, params.lora_rank)
            groups.append({"params": residues, "lr": params.learning_rate})

        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=params.weight_decay, fused=True)

    def step(self, losses: Iterable[Tensor], partner: Partner) -> Tensor:
        """One step down the gradient of the batch's loss; returns that loss.

        `losses` are this process's parts: all processes' parts sum to the batch's.
        """
        self.optimizer.zero_grad()
        total = torch.zeros((), device=self.pipeline.device)
        for loss in losses:
            loss.backward()
            total = total + loss.detach()

        total = sum_gradients(self.parameters, total, partner.add)

        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return total

    def state(self, losses: list[float]) -> dict:
        """The content of a checkpoint, from which `restore` goes on."""
        return {
            "parameters": self.parameters,
            "optimizer": self.optimizer.state_dict(),
            "losses": losses,
        }

    def restore(self, path: Path) -> list[float]:
        """Take over a checkpoint's parameters and optimiser; returns the losses of its steps."""
        state = load_checkpoint(path)
        with torch.no_grad():
            for parameter, saved in zip(self.parameters, state["parameters"], strict=True):
                parameter.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        return state["losses"]

    def save(self, folder: Path, classes: pd.DataFrame) -> None:
        """Write safetensors that `load_lora_weights` and `load_textual_inversion` read."""
        if learns_lora(self.strategy):
            lora = convert_state_dict_to_diffusers(get_peft_model_state_dict(self.pipeline.unet))
            self.pipeline.save_lora_weights(folder, lora, weight_name=LORA_FILE)

        if self.embeddings:
            self._save_tokens(folder / TOKENS_FOLDER, classes["token"])

    def _save_tokens(self, folder: Path, tokens: pd.Series) -> None:
        folder.mkdir(exist_ok=True)
        rows = [embedding.rows.detach().cpu() for embedding in self.embeddings]
        for token, *learned in zip(tokens, *rows, strict=True):
            keys = token_keys(self.pipeline, token)
            vectors = [row.clone() for row in learned]
            named = dict(zip(keys, vectors, strict=True))
            save_file(named, folder / f"{token.strip('<>')}.safetensors")


def encode_images(learner: Learner, table: Table, classes: pd.DataFrame) -> Examples:
    """All images of the table, encoded once."""
    pipeline = learner.pipeline
    params = learner.params
    rows = range(len(table))

    moments = [
        encode_moments(pipeline, table, rows, params.resolution, params.batch, mirror)
        for mirror in (False, True)
    ]
    means, deviations = (torch.cat(parts) for parts in zip(*moments, strict=True))

    ids = tokenize(pipeline, class_prompts(classes, learner.strategy))
    labels = table.rows["label"]
    weights = row_weights(labels, params.class_balanced)
    return Examples(means, deviations, ids[torch.tensor(labels.tolist() * 2)], weights.repeat(2))


def row_weights(labels: pd.Series, class_balanced: bool) -> Tensor:
    """How likely a step draws each image, float64 (n,), up to a common factor.

    All images are alike, or all classes are, so that the tokens of a long tail learn too.
    """
    counts = torch.tensor(labels.map(labels.value_counts()).to_numpy(), dtype=torch.float64)
    return 1 / counts if class_balanced else torch.ones_like(counts)


def finetune(
    learner: Learner,
    table: Table,
    classes: pd.DataFrame,
    seed: int,
    checkpoint: Path,
    tracker: Tracker = NOWHERE,
) -> list[float]:
    """The training loop; returns each step's loss.

    Step k draws from generator (seed, k), so that a resumed run equals an unbroken one.
    """
    examples = encode_images(learner, table, classes)
    losses = learner.restore(checkpoint) if checkpoint.exists() else []
    check_agreement(len(losses), checkpoint)
    params = learner.params
    prompts = class_prompts(classes, learner.strategy)
    watcher = Watcher(tracker, learner.pipeline, prompts, params.resolution, len(losses))

    steps = partial(descend, learner, examples, watcher.look, losses, seed, checkpoint)
    losses = in_two(steps) if params.batch > 1 else steps(Partner((0, 1)))
    watcher.tell(losses)
    return losses


def descend(
    learner: Learner,
    examples: Examples,
    look: Callable[[list[Any]], None],
    losses: list[Any],
    seed: int,
    checkpoint: Path,
    partner: Partner,
) -> list[float]:
    """The steps that `losses` lacks, in this process and its partner; returns all steps' losses.

    `look` is shown the losses after each step.
    """
    pipeline = learner.pipeline
    params = learner.params
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    scaling = pipeline.vae.config.scaling_factor
    parts = batch_parts(params.batch, partner)
    leads = processes().is_main_process and 0 in partner.parts
    steps = range(len(losses), params.steps)
    bar = Progress(steps, "finetune", params.steps, initial=len(losses), disable=not leads)
    saved = time.monotonic()

    for step in bar:
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        batch = draw_batch(examples, params.batch, scaling, len(scheduler), generator)

        # the loss stays a tensor until it is needed: `.item()` would wait for the GPU at every step
        parts_losses = (diffusion_loss(pipeline, scheduler, batch, mine) for mine in parts)
        losses.append(learner.step(parts_losses, partner))
        if not leads:
            continue
        look(losses)

        if time.monotonic() - saved >= checkpoint_seconds():
            saved = time.monotonic()
            losses = [float(value) for value in losses]
            save_checkpoint(learner.state(losses), checkpoint)

    return [float(value) for value in losses]


def batch_parts(size: int, partner: Partner) -> list[list[int]]:
    """The rows of a batch that this process computes, by part.

    On a CPU a batch has two halves. On a GPU, and among launched processes, a process has one part.
    """
    rows = list(range(size))
    if not forks():
        return [share(rows)]
    return [rows[part::2] for part in partner.parts if rows[part::2]]


def check_share(batch: int) -> None:
    """Raises BadInput where a process would have no part of a batch."""
    count = processes().num_processes
    if batch < count:
        raise BadInput(
            f"params.yaml: finetune.batch: {batch} images cannot be shared by {count} processes; "
            "launch fewer, or raise it"
        )


def write(
    losses: list[float], learner: Learner | None, classes: pd.DataFrame, folder: Path
) -> None:
    """Write what was learned, nothing without a learner, and the loss of each step."""
    folder.mkdir(exist_ok=True)
    if learner is not None:
        learner.save(folder, classes)

    rows = pd.DataFrame({"loss": losses}).round(5)
    rows.to_csv(folder / "losses.csv", index_label="step", lineterminator="\n")


def main() -> None:
    params = load(Params)
    classes = read_classes(DOWNLOAD)
    strategy = read_strategy()
    table = Table(DOWNLOAD / "train", read_manifest(SUBSAMPLE))
    inputs = [
        SUBSAMPLE,
        DOWNLOAD / "train",
        DOWNLOAD / "classes.csv",
        METHOD / "finetune.json",
        *model_folder(params.base),
    ]

    launch()
    check_tracking()
    check_share(params.finetune.batch)
    compiled = compiles(params.finetune.steps)
    settings = (hardware(), training_precision(), processes().num_processes, compiled)
    key = work_key(params, inputs, *settings)
    with common_folder("finetune", key) as work:
        losses: list[float] = []
        learner: Learner | None = None

        if strategy != "none":
            seed_everything(params.seed)
            pipeline = load_base(params.base, training_precision())
            check_resolution(pipeline, params.finetune.resolution, "finetune.resolution")
            learner = Learner(pipeline, classes, strategy, params.finetune)
            if compiled:
                compile_unet(pipeline)
            with track(work, params.model_dump()) as tracker:
                losses = finetune(
                    learner, table, classes, params.seed, work / "checkpoint.pt", tracker
                )

        if processes().is_main_process:
            write(losses, learner, classes, work / "result")
            publish(work / "result", FINETUNE)


if __name__ == "__main__":
    run(main)
