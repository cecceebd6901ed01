"""What a packed classifier sees in images.

Reads:  FOLDER, as stages/pack.py has written it; images of any usual format
Writes: CSV or JSON, to the screen or a file; an image that cannot be read is named, and the exit
        status is 1 then
Paper:  –

This is a tool, not a stage of the pipeline:

    python -m stages.predict FOLDER IMAGE…                 as CSV: image, rank, class, probability
    python -m stages.predict FOLDER IMAGES --output a.json     a folder of images, as JSON
"""

import io
import json
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from PIL import Image
from torch import Tensor

from stages.datasets.folder import is_clutter
from stages.datasets.images import SUFFIXES, encode_image
from stages.shared.errors import BadInput
from stages.shared.running.runtime import BATCH
from stages.shared.serving.packed import Packed, answer, load_packed, prepare
from stages.shared.tables import FORMATS
from stages.shared.watching.progress import Progress

COLUMNS = ["image", "rank", "class", "probability"]


def find_images(paths: list[Path]) -> list[Path]:
    """The images among the paths, and in the folders among them, each once, in order.

    Raises BadInput where there is none.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            found |= dict.fromkeys(sorted(list_folder(path)))
        elif path.is_file():
            found[path] = None
        else:
            raise BadInput(f"{path}: there is no such file or folder; name an image")

    if not found:
        raise BadInput(f"{paths[0]}: holds no images; name one, or a folder of them")
    return list(found)


def list_folder(folder: Path) -> Iterator[Path]:
    """The images in a folder and those below it, but for hidden ones and a system's own."""
    for path in folder.rglob("*"):
        hidden = any(map(is_clutter, path.relative_to(folder).parts))
        if path.suffix.lower() in SUFFIXES and not hidden:
            yield path


def open_image(path: Path) -> Image.Image:
    """The picture upright and in RGB, as stage download imports it; raises BadInput."""
    return Image.open(io.BytesIO(encode_image(path)), formats=FORMATS).convert("RGB")


def predict_all(packed: Packed, images: list[Path]) -> Iterator[tuple[Path, Tensor]]:
    """Each image with its classes' probabilities; what cannot be read is named and left out."""
    starts = range(0, len(images), BATCH)
    for first in Progress(starts, desc="predict", unit="batch", disable=len(images) <= BATCH):
        prepared = {}
        for path in images[first : first + BATCH]:
            try:
                prepared[path] = prepare(open_image(path), packed.config)
            except BadInput as error:
                print(error, file=sys.stderr)

        yield from zip(prepared, answer(packed, list(prepared.values())), strict=True)


def list_top(packed: Packed, images: list[Path], top: int) -> pd.DataFrame:
    """The likeliest classes of each image, the first one first."""
    lines = []
    for path, chances in predict_all(packed, images):
        values, classes = chances.topk(min(top, len(chances)))
        for rank, (value, number) in enumerate(zip(values, classes, strict=True), start=1):
            name = packed.config.classes[int(number)]
            lines.append((str(path), rank, name, round(float(value), 4)))

    return pd.DataFrame(lines, columns=COLUMNS)


def as_json(lines: pd.DataFrame) -> str:
    """An entry for each image, with its classes in order."""
    entries = [
        {"image": image, "top": own[["class", "probability"]].to_dict("records")}
        for image, own in lines.groupby("image", sort=False)
    ]
    return json.dumps(entries, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    parser = ArgumentParser(
        prog="python -m stages.predict", description="What a packed classifier sees in images."
    )
    parser.add_argument("folder", type=Path, help="a folder that stages.pack has written")
    parser.add_argument("images", type=Path, nargs="+", help="images, or folders of them")
    parser.add_argument("--top", type=int, default=3, help="classes an image (default: 3)")
    parser.add_argument("--json", action="store_true", help="JSON in place of CSV")
    parser.add_argument("--output", type=Path, help="a file; .json is JSON")
    given = parser.parse_args()
    if given.top < 1:
        parser.error("--top must be at least 1")
    if given.output and not given.output.parent.is_dir():
        parser.error(f"--output: there is no folder {given.output.parent}; make it first")

    packed = load_packed(given.folder)
    images = find_images(given.images)
    lines = list_top(packed, images, given.top)
    if lines.empty:
        sys.exit(1)  # each image was named, and why

    wants_json = given.json or (given.output is not None and given.output.suffix == ".json")
    text = as_json(lines) if wants_json else lines.to_csv(index=False)

    if given.output:
        given.output.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    if lines["image"].nunique() < len(images):
        sys.exit(1)


if __name__ == "__main__":
    main()
