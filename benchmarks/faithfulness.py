"""How good the embedded base is, judged by the shipped classifier that knows the species.

    python -m benchmarks.faithfulness       after `dvc repro finetune`; prints one JSON object

It asks four questions, with equally many images of each class:

- Does the judge know the species?
- Does the autoencoder keep what tells them apart?
- Does the fine-tuned model draw the species that it is asked for (Diff-Gen)?
- Does a translation show the target on the reference's background (Diff-Mix)?

The stage `assess` measures the images of a run itself.
"""

import json

import numpy as np
import torch
from torch import Tensor

from stages.datasets.toybirds.species import SPECIES
from stages.datasets.toybirds.tables import draw, render_species
from stages.shared.diffusion.sampling import Sampling
from stages.shared.diffusion.text import Text
from stages.shared.diffusion.translation import load_translator, translate
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.measuring.fidelity import background_error
from stages.shared.measuring.judge import Judge, load_judge, recognised
from stages.shared.methods import read_strategy
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, JUDGE, SUBSAMPLE
from stages.shared.schemas.download import Params as DownloadParams
from stages.shared.schemas.synthesize import Params

# rendered birds that the judge has not seen: it was trained on those of seed 1
FRESH = 1200
SEED = 2
PER_CLASS = 20


def percent(hits: np.ndarray) -> float:
    return round(100 * float(np.mean(hits)), 1)


def psnr(images: np.ndarray, others: np.ndarray) -> float:
    """Peak signal to noise, dB."""
    error = np.mean((images.astype(float) - others) ** 2)
    return round(float(10 * np.log10(255**2 / error)), 1)


@torch.inference_mode()
def encode(pipeline, images: np.ndarray) -> Tensor:
    """Latent means, unscaled, of uint8 (n, size, size, 3)."""
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) / 127.5 - 1
    batches = pixels.to(pipeline.device, pipeline.dtype).split(100)
    return torch.cat([pipeline.vae.encode(batch).latent_dist.mean for batch in batches])


@torch.inference_mode()
def reconstruct(pipeline, images: np.ndarray) -> np.ndarray:
    """The images as the autoencoder gives them back, uint8 (n, size, size, 3)."""
    batches = encode(pipeline, images).split(100)
    decoded = torch.cat([pipeline.vae.decode(batch).sample for batch in batches])
    pixels = (decoded.clamp(-1, 1) + 1) * 127.5
    return pixels.round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()


def make(
    pipeline,
    text: Text,
    labels: np.ndarray,
    references: Tensor | None,
    strength: float,
    sampling: Sampling,
) -> np.ndarray:
    """The images of the labels' prompts, uint8 (n, size, size, 3)."""
    made = []
    for rows in torch.arange(len(labels)).split(60):
        chosen = None if references is None else references[rows]
        prompts = text.rows([*labels[rows], -1])
        generators = [torch.Generator().manual_seed(seed) for seed in range(len(rows))]

        images = translate(pipeline, chosen, prompts, strength, sampling, generators)
        made += [np.asarray(image) for image in images]

    return np.stack(made)


def keeps_background(
    made: np.ndarray, references: np.ndarray, masks: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Which images are nearer to their reference than to another one, drawn at random: bool (n,).

    They are compared outside of the mask.
    """
    count = len(made)
    others = references[(np.arange(count) + rng.integers(1, count, size=count)) % count]

    kept = []
    for image, own, other, mask in zip(made, references, others, masks, strict=True):
        kept.append(background_error(image, own, mask) < background_error(image, other, mask))

    return np.array(kept)


def translations(
    pipeline, judge: Judge, text: Text, sampling: Sampling, bias: float
) -> dict[str, float]:
    """Diff-Mix at each of the paper's strengths.

    Percent of the images that are recognised as the target, and that keep their reference's
    background.
    """
    targets = np.arange(len(SPECIES)).repeat(PER_CLASS)
    sources = read_manifest(SUBSAMPLE)
    rng = np.random.default_rng(3)

    result = {}
    for strength in (0.5, 0.7, 0.9):
        rows = [rng.choice(np.flatnonzero(sources["label"] != target)) for target in targets]
        scenes = [draw("train", int(sources["key"].iloc[row]), bias) for row in rows]
        images, masks = (np.stack(part) for part in zip(*scenes, strict=True))

        made = make(pipeline, text, targets, encode(pipeline, images), strength, sampling)
        result[f"diff_mix_{strength}"] = percent(recognised(judge, made) == targets)
        result[f"background_kept_{strength}"] = percent(keeps_background(made, images, masks, rng))

    return result


def main() -> None:
    params = load(Params)
    bias = load(DownloadParams).data.toybirds.bias
    classes = read_classes(DOWNLOAD)
    pipeline, text = load_translator(params.base, classes, read_strategy(), params.synth.resolution)
    judge = load_judge(JUDGE)

    fresh, labels = render_species(FRESH, SEED)
    rebuilt = reconstruct(pipeline, fresh)  # fine-tuning does not change the autoencoder
    targets = np.arange(len(SPECIES)).repeat(PER_CLASS)
    made = make(pipeline, text, targets, None, 1.0, params.synth)

    result = {
        "judge": percent(recognised(judge, fresh) == labels),
        "autoencoder": percent(recognised(judge, rebuilt) == labels),
        "psnr": psnr(rebuilt, fresh),
        "diff_gen": percent(recognised(judge, made) == targets),
    }
    result |= translations(pipeline, judge, text, params.synth, bias)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
