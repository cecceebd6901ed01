"""Image files as people have them: checked whole, and turned into what a table holds."""

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps
from PIL.ExifTags import Base
from tqdm.contrib.concurrent import thread_map

from stages.shared.errors import BadInput
from stages.shared.tables import encode_png

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
FORMATS = {"JPEG", "MPO", "PNG", "WEBP"}  # MPO: a phone's JPEG with a second picture behind the first
WINDOW = 64  # images in memory at a time


def check_images(paths: Sequence[Path]) -> None:
    """Decode every file, so that nothing is written when one is broken; raises BadInput, naming the file."""
    thread_map(_check, paths, desc="checking images", unit="image", max_workers=os.cpu_count())


def encode_images(paths: Sequence[Path]) -> Iterator[bytes]:
    """The table's bytes of each file, in order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(paths), WINDOW):
            yield from pool.map(encode_image, paths[first : first + WINDOW])


def encode_image(path: Path) -> bytes:
    """The file as it is where every reader sees the same RGB picture in it; else upright, opaque RGB as PNG."""
    content = path.read_bytes()
    with Image.open(io.BytesIO(content)) as image:
        upright = image.getexif().get(Base.Orientation, 1) == 1
        plain = image.mode in ("RGB", "L") and not image.has_transparency_data
        if upright and plain and image.format in FORMATS:
            return content
        return encode_png(_opaque(ImageOps.exif_transpose(image)))


def _opaque(image: Image.Image) -> Image.Image:
    """RGB on white; 16-bit grey keeps its high byte, where Pillow would clip."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(image.convert("RGBA"))
    return canvas.convert("RGB")


def _check(path: Path) -> None:
    try:
        with Image.open(path) as image:
            image.convert("RGB")
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error, DecompressionBombError
        reason = "the file is empty" if path.stat().st_size == 0 else " ".join(str(error).split())
        raise BadInput(f"{path}: is not a readable image ({reason}); remove or replace it") from None
