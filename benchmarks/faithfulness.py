"""How good the embedded base is, judged by a classifier trained on many rendered birds of the species.

    python -m benchmarks.faithfulness       after `dvc repro finetune`; prints one JSON object

Three questions: does the autoencoder keep what tells species apart; does the fine-tuned model draw the species that it
is asked for (Diff-Gen); does a translation at s = 0.7 show the target on the reference's background (Diff-Mix).
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import trange

from stages.datasets import toybirds
from stages.datasets.toybirds import HABITATS, SPECIES, render
from stages.datasets.toybirds_tables import SIZE, draw
from stages.download import Params as DownloadParams
from stages.finetune import Params as FinetuneParams
from stages.shared.diffusion import load_base, load_finetuned
from stages.shared.networks import build_network
from stages.shared.params import load
from stages.shared.prompts import class_prompts
from stages.shared.tables import read_classes, read_manifest
from stages.synthesize import Params, Synth, encode_prompts, translate

RENDERED, EPOCHS, BATCH = 12_000, 12, 64
PER_CLASS = 20


def render_species(count: int, seed: int) -> tuple[np.ndarray, Tensor]:
    """Birds of all species in both habitats alike: uint8 (count, SIZE, SIZE, 3) and labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % len(SPECIES)
    images = [render(SPECIES[label].bird, HABITATS[rng.integers(2)], rng, SIZE)[0] for label in labels]
    return np.stack(images), torch.from_numpy(labels)


def to_bytes(images: np.ndarray) -> Tensor:
    return torch.from_numpy(images).permute(0, 3, 1, 2)


def train_oracle() -> nn.Module:
    """The judge: it has seen a thousand birds of each species, on either habitat, mirrored too."""
    network = build_network("small_resnet", len(SPECIES), SIZE, pretrained=False)
    world = hashlib.sha256(Path(toybirds.__file__).read_bytes() + Path(__file__).read_bytes()).hexdigest()[:16]
    path = Path(f".work/oracle-{world}.safetensors")
    if path.exists():
        network.load_state_dict(load_file(path))
        return network.eval()
    torch.manual_seed(0)
    images, labels = render_species(RENDERED, seed=1)
    pixels, steps = to_bytes(images), EPOCHS * (RENDERED // BATCH)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
    for _ in trange(steps, desc="oracle"):
        rows = torch.randint(RENDERED, (BATCH,))
        loss = F.cross_entropy(network(pixels[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    path.parent.mkdir(exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in network.state_dict().items()}, path)
    return network.eval()


@torch.inference_mode()
def accuracy(oracle: nn.Module, images: np.ndarray, labels: Tensor) -> float:
    """Percent recognised as their label."""
    predicted = torch.cat([oracle(batch).argmax(1) for batch in to_bytes(images).split(250)])
    return round(100 * float((predicted == labels).float().mean()), 1)


@torch.inference_mode()
def encode(pipeline, images: np.ndarray) -> Tensor:
    """Latent means, unscaled."""
    batches = (to_bytes(images).float() / 127.5 - 1).split(100)
    return torch.cat([pipeline.vae.encode(batch).latent_dist.mean for batch in batches])


@torch.inference_mode()
def reconstruct(pipeline, images: np.ndarray) -> np.ndarray:
    decoded = torch.cat([pipeline.vae.decode(batch).sample for batch in encode(pipeline, images).split(100)])
    pixels = (decoded.clamp(-1, 1) + 1) * 127.5
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in range(count)]


def make(
    pipeline, states: Tensor, labels: Tensor, references: Tensor | None, strength: float, synth: Synth
) -> np.ndarray:
    """The images of the labels' prompts, uint8 (n, SIZE, SIZE, 3)."""
    parts = []
    for rows in torch.arange(len(labels)).split(60):
        chosen = None if references is None else references[rows]
        images = translate(pipeline, chosen, states[labels[rows]], states[-1], strength, synth, generators(len(rows)))
        parts += [np.asarray(image) for image in images]
    return np.stack(parts)


def background_kept(made: np.ndarray, references: np.ndarray, masks: np.ndarray, rng: np.random.Generator) -> float:
    """Percent of images whose background is nearer to their reference's than to a random other's (outside the mask)."""
    others = references[(np.arange(len(made)) + rng.integers(1, len(made), size=len(made))) % len(made)]
    outside = ~masks[..., None]
    near = (np.abs(made.astype(int) - references) * outside).sum((1, 2, 3))
    far = (np.abs(made.astype(int) - others) * outside).sum((1, 2, 3))
    return round(100 * float((near < far).mean()), 1)


def main() -> None:
    params, oracle, bias = load(Params), train_oracle(), load(DownloadParams).data.toybirds.bias
    pipeline = load_base(load(FinetuneParams).base, torch.float32)
    test, labels = render_species(1200, seed=2)
    rebuilt = reconstruct(pipeline, test)
    error = np.mean((rebuilt.astype(float) - test) ** 2)
    result = {
        "oracle": accuracy(oracle, test, labels),
        "autoencoder": accuracy(oracle, rebuilt, labels),
        "psnr": round(float(10 * np.log10(255**2 / error)), 1),
    }
    load_finetuned(pipeline, Path("data/finetune"))
    states = encode_prompts(pipeline, class_prompts(read_classes(Path("data/download")), params.finetune.strategy))
    targets = torch.arange(len(SPECIES)).repeat(PER_CLASS)
    result["diff_gen"] = accuracy(oracle, make(pipeline, states, targets, None, 1.0, params.synth), targets)
    sources, rng = read_manifest(Path("data/subsample")), np.random.default_rng(3)
    for strength in (0.5, 0.7, 0.9):
        rows = [rng.choice(np.flatnonzero(sources["label"] != int(target))) for target in targets]
        scenes = [draw("train", int(sources["key"].iloc[row]), bias) for row in rows]
        images, masks = (np.stack(part) for part in zip(*scenes, strict=True))
        made = make(pipeline, states, targets, encode(pipeline, images), strength, params.synth)
        result[f"diff_mix_{strength}"] = accuracy(oracle, made, targets)
        result[f"background_kept_{strength}"] = background_kept(made, images, masks, rng)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
