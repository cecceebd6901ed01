"""Image files as people have them: checked whole, and turned into what a table holds."""

import hashlib
import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.ExifTags import Base
from tqdm.contrib.concurrent import thread_map

from stages.shared.errors import BadInput
from stages.shared.tables import encode_png
from stages.shared.watching.progress import Progress

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
FORMATS = {"JPEG", "MPO", "PNG", "WEBP"}  # MPO: a JPEG with a second picture behind the first
# whatever the suffix; never a script (EPS)
DECODED = (*FORMATS - {"MPO"}, "GIF", "BMP", "TIFF", "JPEG2000", "AVIF")
TURNS = {  # by EXIF's orientation
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
WINDOW = 64  # images in memory at a time


class ImageFile(Protocol):
    """A Path, or whatever lies inside an archive; `str()` is what messages call it."""

    def read_bytes(self) -> bytes: ...


def check_images(paths: Sequence[ImageFile]) -> list[bytes]:
    """Decode every file, so that nothing is written when one is broken.

    Returns a digest of each picture's pixels: equal ones are of the same picture. Raises BadInput,
    naming the file.
    """
    return thread_map(
        _check,
        paths,
        desc="checking images",
        unit="image",
        max_workers=os.cpu_count(),
        tqdm_class=Progress,
    )


def encode_images(paths: Sequence[ImageFile]) -> Iterator[bytes]:
    """The table's bytes of each file, in order."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for first in range(0, len(paths), WINDOW):
            yield from pool.map(encode_image, paths[first : first + WINDOW])


def encode_image(path: ImageFile) -> bytes:
    """The file as it is, where every reader sees the same RGB picture in it.

    Else the picture as a PNG: upright, opaque, RGB.
    """
    with _opened(path) as (content, image):
        plain = image.mode in ("RGB", "L") and not image.has_transparency_data
        if _orientation(image) == 1 and plain and image.format in FORMATS:
            return content

        return encode_png(_picture(image))


def _check(path: ImageFile) -> bytes:
    with _opened(path) as (content, image):
        picture = _picture(image)
        if image.format == "PNG":
            # Pillow decodes pixels without their checksums; libpng, say, would refuse them
            Image.open(io.BytesIO(content)).verify()

        return hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).digest()


@contextmanager
def _opened(path: ImageFile) -> Iterator[tuple[bytes, Image.Image]]:
    """The file's bytes and its picture, of an animation the first.

    Raises BadInput, naming the file, for whatever fails inside.
    """
    # a pipe would never end; a link may lead nowhere
    if isinstance(path, Path) and not path.is_file():
        raise BadInput(f"{path}: is not a file; remove or replace it")

    content = b""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content), formats=DECODED) as image:
            yield content, image
    except Exception as error:  # decoders raise anything: OSError, SyntaxError, struct.error
        reason = " ".join(str(error).split())
        if isinstance(error, UnidentifiedImageError):  # its own words name an address
            reason = "cannot identify its format" if content else "the file is empty"

        cure = "remove or replace it" if isinstance(path, Path) else "get the archive anew"
        raise BadInput(f"{path}: is not a readable image ({reason}); {cure}") from None


def _picture(image: Image.Image) -> Image.Image:
    """All of its pixels, upright."""
    turn = TURNS.get(_orientation(image))
    return _opaque(image if turn is None else image.transpose(turn))


def _orientation(image: Image.Image) -> int:
    """EXIF's orientation; 1, which is upright, where it cannot be read."""
    # a PNG's block may follow its pixels, and a TIFF turns itself upright; outside of the `try`,
    # since pixels that cannot be read are another fault
    if image.format in ("PNG", "TIFF"):
        image.load()

    try:
        value = image.getexif().get(Base.Orientation, 1)
    except Exception:  # struct.error, SyntaxError, ValueError
        return 1

    return value if isinstance(value, int) else 1


def _opaque(image: Image.Image) -> Image.Image:
    """RGB on white; 16-bit grey keeps its high byte, where Pillow would clip."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")

    canvas = Image.new("RGBA", image.size, "white")
    canvas.alpha_composite(image.convert("RGBA"))
    return canvas.convert("RGB")
