"""Teach the base model the classes: Textual Inversion, DreamBooth with LoRA, or both (Sec. 3.3).

Reads data/subsample/manifest.csv, the training table, classes.csv and the method's strategy. Writes data/finetune/ in
diffusers' own formats: pytorch_lora_weights.safetensors, tokens/<class-0000>.safetensors; and losses.csv.
"""

import time
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import torch.nn.functional as F
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from stages.shared.diffusion.base_model import (
    LORA_FILE,
    TOKENS_FOLDER,
    Pipeline,
    check_resolution,
    encode_moments,
    load_base,
    token_keys,
)
from stages.shared.diffusion.text import encode, encoders, predict, tokenize
from stages.shared.errors import BadInput
from stages.shared.methods import Strategy, learns_lora, learns_tokens, read_strategy
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, FINETUNE, METHOD, SUBSAMPLE
from stages.shared.prompts import class_prompts
from stages.shared.running.checkpoint import load_checkpoint, save_checkpoint
from stages.shared.running.processes import common_folder, launch, processes, share, sum_gradients
from stages.shared.running.runtime import (
    checkpoint_seconds,
    device,
    seed_everything,
    to_device,
    training_precision,
)
from stages.shared.running.work import model_folder, publish, work_key
from stages.shared.schemas.finetune import Finetune, Params
from stages.shared.tables import Table, read_classes, read_manifest

LORA_TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]  # every attention projection of the UNet


class TokenEmbedding(nn.Module):
    """A frozen embedding table with new trainable rows behind it: gradients reach the new rows and nothing else."""

    def __init__(self, table: nn.Embedding, rows: Tensor):
        super().__init__()
        self.table = table
        self.rows = nn.Parameter(rows)

    def forward(self, ids: Tensor) -> Tensor:
        known = self.table.num_embeddings
        new = F.embedding((ids - known).clamp(min=0), self.rows).to(self.table.weight.dtype)
        return torch.where((ids >= known)[..., None], new, self.table(ids.clamp(max=known - 1)))


def add_tokens(pipeline: Pipeline, classes: pd.DataFrame) -> list[TokenEmbedding]:
    """Give each class a token in each text encoder, which starts as its metaclass's (first) word."""
    added = []
    for tokenizer, encoder in encoders(pipeline):
        table = encoder.get_input_embeddings()
        words = [
            tokenizer(word, add_special_tokens=False).input_ids[0] for word in classes["metaclass"]
        ]
        tokenizer.add_tokens(classes["token"].tolist())
        embedding = TokenEmbedding(table, table.weight[words].detach().clone().float())
        encoder.set_input_embeddings(embedding)
        added.append(embedding)
    return added


def add_lora(unet: UNet2DConditionModel, rank: int) -> list[nn.Parameter]:
    """Low-rank residues on all attention projections (Hu et al., 2022); returns their parameters."""
    unet.add_adapter(
        LoraConfig(
            r=rank, target_modules=LORA_TARGETS, lora_alpha=rank, init_lora_weights="gaussian"
        )
    )
    residues = [parameter for parameter in unet.parameters() if parameter.requires_grad]
    for residue in residues:
        residue.data = (
            residue.data.float()
        )  # where the base is in bf16, what is learned is not: steps are too small
    return residues


def diffusion_loss(
    pipeline, scheduler: DDPMScheduler, latents: Tensor, ids: Tensor, generator, mine: list[int]
) -> Tensor:
    """Eq. 1, for noise or velocity prediction, whichever the base was trained for.

    ids: (n, encoders, length). All of the batch is drawn for; the loss is what its rows `mine` add to the batch's mean.
    """
    noise = torch.randn(latents.shape, generator=generator)
    times = torch.randint(
        scheduler.config.num_train_timesteps, (len(latents),), generator=generator
    )
    share_of_batch = len(mine) / len(latents)
    latents, noise, times, ids = (
        to_device(part[mine], pipeline.device) for part in (latents, noise, times, ids)
    )
    noisy = scheduler.add_noise(latents, noise, times).contiguous(memory_format=torch.channels_last)
    frozen = pipeline.unet.conv_in.weight.dtype  # what is learned is fp32 in any case
    with torch.autocast(pipeline.device.type, frozen, enabled=frozen != torch.float32):
        predicted = predict(pipeline, noisy, times, encode(pipeline, ids)).float()
    velocity = scheduler.config.prediction_type == "v_prediction"
    target = scheduler.get_velocity(latents, noise, times) if velocity else noise
    return share_of_batch * F.mse_loss(predicted, target)


class Learner:
    """What is trained, how, and how it is kept: the model's new parameters with their optimiser."""

    def __init__(
        self, pipeline: Pipeline, classes: pd.DataFrame, strategy: Strategy, params: Finetune
    ):
        self.pipeline, self.strategy, self.params = pipeline, strategy, params
        self.embeddings = add_tokens(pipeline, classes) if learns_tokens(strategy) else []
        groups: list[dict] = []
        if self.embeddings:
            rows = [embedding.rows for embedding in self.embeddings]
            groups.append({"params": rows, "lr": params.token_learning_rate})
        if learns_lora(strategy):
            groups.append(
                {"params": add_lora(pipeline.unet, params.lora_rank), "lr": params.learning_rate}
            )
        self.parameters = [parameter for group in groups for parameter in group["params"]]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=params.weight_decay)

    def step(self, loss: Tensor) -> Tensor:
        """Down the gradient of all processes' losses, which sum to the batch's; returns that."""
        self.optimizer.zero_grad()
        loss.backward()
        total = sum_gradients(self.parameters, loss.detach())
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        return total

    def state(self, losses: list[float]) -> dict:
        return {
            "parameters": self.parameters,
            "optimizer": self.optimizer.state_dict(),
            "losses": losses,
        }

    def restore(self, path: Path) -> list[float]:
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
            (folder / TOKENS_FOLDER).mkdir(exist_ok=True)
            rows = [embedding.rows.detach().cpu() for embedding in self.embeddings]
            for token, *learned in zip(classes["token"], *rows, strict=True):
                named = dict(
                    zip(
                        token_keys(self.pipeline, token),
                        (row.clone() for row in learned),
                        strict=True,
                    )
                )
                save_file(named, folder / TOKENS_FOLDER / f"{token.strip('<>')}.safetensors")


def prepare(
    learner: Learner, table: Table, classes: pd.DataFrame
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Latent moments of all images and mirror images, (2n, c, h, w) each; token ids, (2n, encoders, length)."""
    pipeline, params, rows = learner.pipeline, learner.params, range(len(table))
    sides = [
        encode_moments(pipeline, table, rows, params.resolution, params.batch, mirror)
        for mirror in (False, True)
    ]
    means, deviations = (torch.cat(parts) for parts in zip(*sides, strict=True))
    ids = tokenize(pipeline, class_prompts(classes, learner.strategy))
    return (means, deviations), ids[torch.tensor(table.rows["label"].tolist() * 2)]


def row_weights(labels: pd.Series, class_balanced: bool) -> Tensor:
    """How likely a step draws each image: all alike, or all classes alike, so that a long tail's tokens learn too."""
    counts = torch.tensor(labels.map(labels.value_counts()).to_numpy(), dtype=torch.float64)
    return 1 / counts if class_balanced else torch.ones_like(counts)


def finetune(
    learner: Learner, table: Table, classes: pd.DataFrame, seed: int, checkpoint: Path
) -> list[float]:
    """The training loop; step k draws from generator (seed, k), so that a resumed run equals an unbroken one."""
    params, pipeline, mine = learner.params, learner.pipeline, share(range(learner.params.batch))
    (means, deviations), ids = prepare(learner, table, classes)
    weights = row_weights(table.rows["label"], params.class_balanced).repeat(
        2
    )  # once more for the mirror images
    scheduler = DDPMScheduler.from_config(pipeline.scheduler.config)
    losses: list[Any] = learner.restore(checkpoint) if checkpoint.exists() else []
    saved = time.monotonic()
    for step in tqdm(
        range(len(losses), params.steps), initial=len(losses), total=params.steps, desc="finetune"
    ):
        generator = torch.Generator().manual_seed(seed * 1_000_003 + step)
        rows = torch.multinomial(weights, params.batch, replacement=True, generator=generator)
        sample = means[rows] + deviations[rows] * torch.randn(
            means[rows].shape, generator=generator
        )
        latents = sample * pipeline.vae.config.scaling_factor
        loss = learner.step(
            diffusion_loss(pipeline, scheduler, latents, ids[rows], generator, mine)
        )
        losses.append(
            loss
        )  # a tensor until it is needed: `.item()` would wait for the GPU at every step
        if time.monotonic() - saved >= checkpoint_seconds():
            saved, losses = time.monotonic(), [float(value) for value in losses]
            if processes().is_main_process:
                save_checkpoint(learner.state(losses), checkpoint)
    return [float(value) for value in losses]


def check_share(batch: int) -> None:
    """Raises BadInput where a process would have no part of a batch."""
    if batch < processes().num_processes:
        raise BadInput(
            f"params.yaml: finetune.batch: {batch} images cannot be shared by {processes().num_processes} processes; "
            "launch fewer, or raise it"
        )


def write(
    losses: list[float], learner: Learner | None, classes: pd.DataFrame, folder: Path
) -> None:
    folder.mkdir(exist_ok=True)
    if learner is not None:
        learner.save(folder, classes)
    pd.DataFrame({"loss": losses}).round(5).to_csv(
        folder / "losses.csv", index_label="step", lineterminator="\n"
    )


def main() -> None:
    params, classes, strategy = load(Params), read_classes(DOWNLOAD), read_strategy()
    table = Table(DOWNLOAD / "train", read_manifest(SUBSAMPLE))
    inputs = [
        SUBSAMPLE,
        DOWNLOAD / "train",
        DOWNLOAD / "classes.csv",
        METHOD / "finetune.json",
        *model_folder(params.base),
    ]
    launch()
    check_share(params.finetune.batch)
    key = work_key(params, inputs, device(), training_precision(), processes().num_processes)
    with common_folder("finetune", key) as work:
        losses: list[float] = []
        learner: Learner | None = None
        if strategy != "none":
            seed_everything(params.seed)
            pipeline = load_base(params.base, training_precision())
            check_resolution(pipeline, params.finetune.resolution, "finetune.resolution")
            learner = Learner(pipeline, classes, strategy, params.finetune)
            losses = finetune(learner, table, classes, params.seed, work / "checkpoint.pt")
        if processes().is_main_process:
            write(losses, learner, classes, work / "result")
            publish(work / "result", FINETUNE)


if __name__ == "__main__":
    main()
