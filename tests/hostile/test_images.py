"""Photos as the world has them: each comes in upright with its own pixels, or is refused by name.

Of an animation the first picture is taken, as other tools do; a broken EXIF block says nothing of
the orientation.
"""

import io
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from stages.datasets.images import check_images, encode_image
from stages.shared.errors import BadInput
from stages.shared.tables import FORMATS
from tests.stages.test_download import save

RED = (255, 0, 0)
GREEN = (0, 255, 0)
BLUE = (0, 0, 255)
WHITE = (255, 255, 255)
SECONDS = 10  # more than any file takes that does not hang


def in_time(function, *arguments):
    """The function's result or exception; fails where there is none in time."""
    outcome: list = []

    def call() -> None:
        try:
            outcome.append((function(*arguments), None))
        except BaseException as error:
            outcome.append((None, error))

    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    thread.join(SECONDS)
    assert outcome, "hangs"

    result, error = outcome[0]
    if error is not None:
        raise error

    return result


def imported(path: Path) -> np.ndarray:
    """The file's pixels as every later stage reads them, uint8 (height, width, 3)."""
    in_time(check_images, [path])
    content = in_time(encode_image, path)
    return np.asarray(Image.open(io.BytesIO(content), formats=FORMATS).convert("RGB"))


def refusal(path: Path) -> str:
    with pytest.raises(BadInput) as error:
        in_time(check_images, [path])

    line = str(error.value)
    assert line.isprintable()
    assert path.name in line
    return line


def near(pixel: np.ndarray, colour: tuple, most: int = 3) -> bool:
    """Equal up to what JPEG rounds."""
    return bool(np.abs(pixel.astype(int) - colour).max() <= most)


def encoded(image: Image.Image, encoding: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, encoding, **options)
    return buffer.getvalue()


def noise(size=(64, 64)) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(256, size=(*size, 3), dtype=np.uint8))


def corners() -> Image.Image:
    """32 x 16: red at the left, blue at the right; the left half's lower part is green."""
    image = Image.new("RGB", (32, 16), BLUE)
    image.paste(RED, (0, 0, 16, 8))
    image.paste(GREEN, (0, 8, 16, 16))
    return image


def chunk(name: bytes, content: bytes) -> bytes:
    """A part of a PNG file: length, name, content, checksum."""
    length = struct.pack(">I", len(content))
    checksum = struct.pack(">I", zlib.crc32(name + content))
    return length + name + content + checksum


def png(
    width: int, height: int, depth: int, colour_type: int, lines: bytes, *extra: bytes
) -> bytes:
    """A PNG file, written by hand so that it can be wrong."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    data = chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", zlib.compress(lines))
    return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("encoding", "suffix"), [("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp")]
)
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_a_truncated_file_is_refused(tmp_path, encoding, suffix, share):
    content = encoded(noise(), encoding)
    path = tmp_path / f"half.{suffix}"
    path.write_bytes(content[: int(share * len(content))])
    assert "is not a readable image" in refusal(path)


BOMB = png(60000, 60000, 8, 2, bytes(1000))
SVG = b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>'
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(/tmp/x) run\n%%EOF\n"
FLIPPED = bytearray(encoded(noise(), "PNG"))
FLIPPED[200] ^= 0xFF
MISCOUNTED = bytearray(encoded(noise(), "PNG"))
MISCOUNTED[MISCOUNTED.rindex(b"IEND") - 8] ^= 0xFF  # of the pixels' checksum


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.jpg", b""), ("text.jpg", b"no image"), ("page.png", b"<html></html>"),
        ("nul.webp", bytes(4096)), ("bomb.png", BOMB), ("zero.png", png(0, 0, 8, 2, b"")),
        ("drawing.jpg", SVG), ("script.jpg", EPS), ("flipped.png", bytes(FLIPPED)),
        ("sum.png", bytes(MISCOUNTED)), ("head.jpg", b"\xff\xd8\xff\xe0\x00\x10JFIF"),
        ("riff.webp", b"RIFF\0\0\0\0WEBP"),
    ],
)  # fmt: skip
def test_what_is_no_image_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "0x" not in refusal(tmp_path / name)  # no address in memory


def test_a_decompression_bomb_is_called_one(tmp_path):
    (tmp_path / "bomb.png").write_bytes(BOMB)
    assert "decompression bomb" in refusal(tmp_path / "bomb.png")


def test_a_compressed_text_that_swells_is_refused(tmp_path):
    swelling = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(100_000_000), 9))
    (tmp_path / "text.png").write_bytes(png(1, 1, 8, 2, bytes(4), swelling))
    assert "too large" in refusal(tmp_path / "text.png")


@pytest.mark.parametrize(("encoding", "suffix"), [("GIF", "jpg"), ("WEBP", "webp"), ("PNG", "png")])
def test_the_first_picture_of_an_animation_is_taken(tmp_path, encoding, suffix):
    frames = [Image.new("RGB", (6, 4), colour) for colour in (RED, GREEN, BLUE)]
    options = {"lossless": True} if encoding == "WEBP" else {}
    content = encoded(frames[0], encoding, save_all=True, append_images=frames[1:], **options)
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(content)

    assert (imported(path) == RED).all()


def as_l16() -> bytes:
    return png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 0x8001, 0xFFFF))


def as_rgb16() -> bytes:
    return png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 0xFF00, 0x0012, 0x80FF))


def as_palette() -> bytes:
    image = Image.new("P", (2, 1))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((1, 0), 1)
    return encoded(image, "PNG", transparency=1)


def as_bits() -> bytes:
    image = Image.new("1", (2, 1))
    image.putpixel((1, 0), 1)
    return encoded(image, "PNG")


@pytest.mark.parametrize(
    ("content", "pixels"),
    [
        (encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"), [RED]),
        (as_l16(), [(128, 128, 128), WHITE]),
        (as_rgb16(), [(255, 0, 128)]),
        (as_palette(), [RED, WHITE]),
        (as_bits(), [(0, 0, 0), WHITE]),
        (encoded(Image.new("LA", (2, 1), (77, 255)), "PNG"), [(77, 77, 77)]),
        (encoded(Image.new("LA", (2, 1), (0, 0)), "PNG"), [WHITE]),
        (encoded(Image.new("RGBA", (2, 1), (255, 0, 0, 128)), "PNG"), [(255, 127, 127)]),
        (encoded(Image.new("RGB", (2, 1), RED), "PNG", transparency=RED), [WHITE]),
        (encoded(Image.new("RGB", (8, 8), RED), "TIFF"), [RED]),
        (encoded(Image.new("RGB", (8, 8), RED), "BMP"), [RED]),
    ],
    ids=[
        "cmyk", "l16", "rgb16", "palette", "bits", "grey", "clear", "half-clear", "key-colour",
        "tiff", "bmp",
    ],
)  # fmt: skip
def test_every_mode_becomes_opaque_rgb(tmp_path, content, pixels):
    (tmp_path / "a.jpg").write_bytes(content)
    first_row = imported(tmp_path / "a.jpg")[0]
    assert all(near(first_row[column], colour) for column, colour in enumerate(pixels))


# By EXIF's orientation: (row, column) of a red, a green and a blue pixel of the upright picture.
UPRIGHT = {
    1: ((4, 4), (12, 4), (8, 24)), 2: ((4, 28), (12, 28), (8, 8)), 3: ((12, 28), (4, 28), (8, 8)),
    4: ((12, 4), (4, 4), (8, 24)), 5: ((4, 4), (4, 12), (24, 8)), 6: ((4, 12), (4, 4), (24, 8)),
    7: ((28, 12), (28, 4), (8, 8)), 8: ((28, 4), (28, 12), (8, 8)),
}  # fmt: skip


@pytest.mark.parametrize("encoding", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_turned_picture_is_set_upright(tmp_path, orientation, encoding):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a.jpg").write_bytes(encoded(corners(), encoding, exif=exif))

    pixels = imported(tmp_path / "a.jpg")

    assert pixels.shape == ((16, 32, 3) if orientation < 5 else (32, 16, 3))
    for position, colour in zip(UPRIGHT[orientation], (RED, GREEN, BLUE), strict=True):
        assert near(pixels[position], colour, 40)


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_is_none_turns_nothing(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "a.png").write_bytes(encoded(corners(), "PNG", exif=exif))
    assert (imported(tmp_path / "a.png") == np.asarray(corners())).all()


LOST = b"II*\0\xff\xff\xff\xff"  # its directory is said to lie behind the end
SHORT = b"II*\0\x08\0\0\0\x01"
WILD = b"MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12\0\x02" * 9


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of a corrupt block
@pytest.mark.parametrize("block", [b"", b"no tiff", LOST, SHORT, WILD])
def test_a_broken_exif_block_says_nothing(tmp_path, block):
    content = encoded(corners(), "JPEG", exif=b"Exif\0\0" + block, quality=95)
    (tmp_path / "a.jpg").write_bytes(content)

    pixels = imported(tmp_path / "a.jpg")

    assert near(pixels[4, 4], RED, 40)
    assert near(pixels[8, 24], BLUE, 40)


def test_garbage_behind_a_picture_and_a_colour_profile_that_is_none_do_no_harm(tmp_path):
    content = encoded(corners(), "JPEG", icc_profile=b"no profile")
    (tmp_path / "a.jpg").write_bytes(content + bytes(1000) + SVG)
    assert near(imported(tmp_path / "a.jpg")[4, 4], RED, 40)


@pytest.mark.parametrize("size", [(1, 20000), (20000, 1), (1, 1)])
def test_the_narrowest_picture_is_one(tmp_path, size):
    save(tmp_path / "a.png", RED, size)
    assert imported(tmp_path / "a.png").shape == (size[1], size[0], 3)
