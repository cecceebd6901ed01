"""How good the embedded base is, judged by the shipped classifier that knows the species.

    python -m benchmarks.faithfulness       after `dvc repro finetune`; prints one JSON object

It asks five questions, with equally many images of each class:

- Does the judge know the species?
- Does the autoencoder keep what tells them apart?
- Does the fine-tuned model draw the species that it is asked for (Diff-Gen)?
- Does a translation show the target on the reference's background (Diff-Mix)?
- Does CLIP's presence score, by which the filter drops images, rank broken birds below whole ones,
  and translations that the judge does not recognise below those that it does? As the area under
  the ROC curve: 100 where it always does, 50 where it says nothing.

The stage `assess` measures the images of a run itself.
"""

import json
from collections.abc import Callable
from typing import get_args

import numpy as np
import pandas as pd
import torch
from PIL import Image
from scipy.stats import mannwhitneyu
from torch import Tensor

from benchmarks.judging import keeps_background, percent
from stages.datasets.toybirds.drawing import SIZE, Flaw, render
from stages.datasets.toybirds.species import HABITATS, SPECIES
from stages.datasets.toybirds.tables import draw, render_species
from stages.filter import captions, confidence
from stages.pretraining.autoencoder import smear
from stages.shared.diffusion.sampling import Sampling
from stages.shared.diffusion.text import Text
from stages.shared.diffusion.translation import draw_noise, load_translator, translate_latents
from stages.shared.manifests import read_classes, read_manifest
from stages.shared.measuring.judge import Judge, load_judge, recognised
from stages.shared.methods import read_strategy
from stages.shared.params import load
from stages.shared.paths import DOWNLOAD, JUDGE, SUBSAMPLE
from stages.shared.pretrained.clip import image_features, load_clip, logits, text_features
from stages.shared.pretrained.reference import Pretrained
from stages.shared.schemas.download import Params as DownloadParams
from stages.shared.schemas.filter import Params as FilterParams
from stages.shared.schemas.synthesize import Params

# rendered birds that the judge has not seen: it was trained on those of seed 1
FRESH = 1200
SEED = 2
PER_CLASS = 20

Presence = Callable[[np.ndarray], np.ndarray]  # of images (n, size, size, 3): scores (n,)


def psnr(images: np.ndarray, others: np.ndarray) -> float:
    """Peak signal to noise, dB."""
    error = np.mean((images.astype(float) - others) ** 2)
    return round(float(10 * np.log10(255**2 / error)), 1)


def area(better: np.ndarray, worse: np.ndarray) -> float:
    """Percent of the pairs in which the better one has the higher score; a tie counts half."""
    pairs = len(better) * len(worse)
    if pairs == 0:
        return float("nan")
    return round(100 * float(mannwhitneyu(better, worse).statistic) / pairs, 1)


class Drawn:
    """Images in memory, (n, size, size, 3), as a table's."""

    def __init__(self, images: np.ndarray):
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def image(self, row: int) -> Image.Image:
        return Image.fromarray(self.images[row])


def presence_score(clip: Pretrained, classes: pd.DataFrame) -> Presence:
    """The filter's score of images: CLIP's confidence that a bird is in them."""
    model, processor = load_clip(clip)
    texts = text_features(captions("metaclass", classes), model, processor)

    def score(images: np.ndarray) -> np.ndarray:
        features = image_features(Drawn(images), model, processor)  # type: ignore[arg-type]
        return confidence(
            logits(features, texts, model), "metaclass", pd.Series(range(len(images)))
        )

    return score


def render_broken(flaw: Flaw | None, count: int) -> np.ndarray:
    """Broken birds of the species in turn; no birds without a flaw."""
    rng = np.random.default_rng(SEED + 1)

    images = []
    for row in range(count):
        bird = SPECIES[row % len(SPECIES)].bird if flaw else None
        images.append(render(bird, HABITATS[rng.integers(2)], rng, SIZE, flaw)[0])

    return np.stack(images)


def presence_of_broken(pipeline, fresh: np.ndarray, score: Presence) -> dict[str, float]:
    """How surely the score ranks fresh birds above what no filter should keep."""
    whole = score(fresh)
    broken = {flaw: render_broken(flaw, len(fresh)) for flaw in (*get_args(Flaw), None)}
    broken["smear"] = smear(pipeline.vae, fresh, torch.arange(len(fresh)), SEED)

    return {
        f"clip_whole_above_{(kind or 'empty').replace(' ', '_')}": area(whole, score(images))
        for kind, images in broken.items()
    }


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

        noise = draw_noise(pipeline, sampling.resolution, generators, pipeline.unet.dtype)

        images = translate_latents(pipeline, chosen, noise, prompts, strength, sampling, generators)
        made.append(images.cpu().numpy())

    return np.concatenate(made)


def translations(
    pipeline, judge: Judge, text: Text, sampling: Sampling, bias: float, score: Presence
) -> dict[str, float]:
    """Diff-Mix at each of the paper's strengths.

    Percent of the images that are recognised as the target, and that keep their reference's
    background; and how surely the score tells those that are recognised from the others.
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
        hits = recognised(judge, made) == targets
        scores = score(made)
        result[f"diff_mix_{strength}"] = percent(hits)
        result[f"clip_recognised_above_others_{strength}"] = area(scores[hits], scores[~hits])
        result[f"background_kept_{strength}"] = percent(keeps_background(made, images, masks, rng))

    return result


def main() -> None:
    params = load(Params)
    bias = load(DownloadParams).data.toybirds.bias
    classes = read_classes(DOWNLOAD)
    pipeline, text = load_translator(params.base, classes, read_strategy(), params.synth)
    judge = load_judge(JUDGE)
    score = presence_score(load(FilterParams).clip, classes)

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
    result |= translations(pipeline, judge, text, params.synth, bias, score)
    result |= presence_of_broken(pipeline, fresh, score)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
