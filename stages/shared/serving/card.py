"""A model card for what leaves the pipeline: Markdown with the Hugging Face hub's header."""

from pathlib import Path
from typing import Any

from stages.shared.serving.packed import WEIGHTS, Config

MANY = 40  # classes; of more the card names the number alone


def write_card(folder: Path, config: Config, metrics: dict[str, Any]) -> None:
    """Write README.md; `metrics` is the arm's part of metrics/evaluate.json, with its `gain`."""
    (folder / "README.md").write_text(make_card(config, metrics), encoding="utf-8")


def make_card(config: Config, metrics: dict[str, Any]) -> str:
    """What the classifier is, how good, and how to use it."""
    classes = f"{len(config.classes)} classes"
    if len(config.classes) <= MANY:
        classes += f": {', '.join(config.classes)}"

    return (
        "\n\n".join(
            [
                "---\nlibrary_name: pytorch\npipeline_tag: image-classification\n"
                "tags: [diff-mix, image-classification]\n---",
                f"# {config.architecture}, arm {config.arm} ({config.method})",
                f"It tells {classes}.",
                "\n".join(list_measures(config, metrics)),
                f"An image is squeezed to {config.resize} × {config.resize} pixels; of this, the "
                f"middle {config.resolution} × {config.resolution} are shown to the network, "
                "normalised by ImageNet's mean and deviation.",
                "Use: `python -m stages.predict FOLDER IMAGE`, or load "
                f"`{WEIGHTS}`, in whose header stand classes, architecture and preprocessing. "
                f"Made at commit {config.commit}, trial {config.trial}.",
            ]
        )
        + "\n"
    )


def list_measures(config: Config, metrics: dict[str, Any]) -> list[str]:
    """Its own accuracy, and what its arm reached over all trials."""
    lines = [f"- top-1 on the test images: {config.top1:.2f} %"]
    if "top1" in metrics:
        lines.append(f"- mean over the arm's trials: {metrics['top1']:.2f} %")

    gain = metrics.get("gain", {})
    if "top1_ci" in gain:
        low, high = gain["top1_ci"]
        lines.append(
            f"- against the baseline: {gain['top1']:+.2f} points, 95 % interval "
            f"{low:+.2f} to {high:+.2f}, over trials and test images"
        )
    if "waterbird" in metrics:
        lines.append(f"- worst Waterbird group: {metrics['waterbird']['worst']:.2f} %")
    return lines
