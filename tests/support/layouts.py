"""Archives in the true layout of each dataset, with few or no images: real .tgz, .tar, .mat, palette PNG.

A file that the test has no use for is there none the less where the real archive has one that could be mistaken for it.
"""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from stages.datasets.fetching.archives import Archive
from stages.datasets.published import aircraft, cars, cub, dogs, flowers, pascal, waterbirds

Files = Mapping[str, bytes]


def pack(files: Files, gzipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(buffer.getvalue(), 1, mtime=0) if gzipped else buffer.getvalue()


def jpeg(number: int, kind: int = 0, size: tuple[int, int] = (8, 6)) -> bytes:
    """Of a colour that no other number below 16, or other tens of `kind`, has."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (16 * number % 256, 2 * kind, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


def palette(indices: np.ndarray) -> bytes:
    """A PNG as VOC's masks: one byte a pixel, with a palette."""
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette([value for k in range(256) for value in (k, 255 - k, 7 * k % 256)])
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def mat(**variables: Any) -> bytes:
    buffer = io.BytesIO()
    savemat(buffer, variables, do_compression=True)
    return buffer.getvalue()


def cells(values: list[str], shape: tuple[int, int]) -> np.ndarray:
    """A MATLAB cell array of strings."""
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)


def text(lines: list[str]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode()


def cub_files(
    classes: list[str], images: list[tuple[int, str, bool]], pictures: bool = True
) -> dict[str, bytes]:
    """`images` has label, file and whether it is for training."""
    folders = [f"{label + 1:03d}.{name}" for label, name in enumerate(classes)]
    paths = [f"{folders[label]}/{file}" for label, file, _ in images]
    files = {
        "attributes.txt": b"1 has_bill_shape::curved_(up_or_down)\n",
        "CUB_200_2011/classes.txt": text([f"{k + 1} {folder}" for k, folder in enumerate(folders)]),
        "CUB_200_2011/images.txt": text([f"{k + 1} {path}" for k, path in enumerate(paths)]),
        "CUB_200_2011/image_class_labels.txt": text(
            [f"{k + 1} {image[0] + 1}" for k, image in enumerate(images)]
        ),
        "CUB_200_2011/train_test_split.txt": text(
            [f"{k + 1} {int(image[2])}" for k, image in enumerate(images)]
        ),
    }
    if pictures:
        files |= {f"CUB_200_2011/images/{path}": jpeg(k, 10) for k, path in enumerate(paths)}
    return files


def waterbird_files(
    rows: list[tuple[str, int, int, int]], pictures: bool = True
) -> dict[str, bytes]:
    """`rows` has img_filename, y, split and place."""
    lines = ["img_id,img_filename,y,split,place,place_filename"]
    lines += [
        f"{k + 1},{name},{y},{split},{place},/o/ocean/00000{k}.jpg"
        for k, (name, y, split, place) in enumerate(rows)
    ]
    files = {f"{waterbirds.ROOT}/metadata.csv": text(lines)}
    if pictures:
        files |= {f"{waterbirds.ROOT}/{row[0]}": jpeg(k, 20) for k, row in enumerate(rows)}
    return files


def aircraft_files(
    variants: list[str], splits: Mapping[str, list[tuple[str, str]]], pictures: bool = True
) -> dict[str, bytes]:
    """`splits` has image and variant of train, val and test; trainval is made of the first two."""
    both = {**splits, "trainval": [*splits["train"], *splits["val"]]}
    files = {
        f"{aircraft.ROOT}/variants.txt": text(variants),
        f"{aircraft.ROOT}/families.txt": b"Boeing 737\n",
    }
    for name, rows in both.items():
        files[f"{aircraft.ROOT}/images_variant_{name}.txt"] = text(
            [f"{image} {variant}" for image, variant in rows]
        )
        files[f"{aircraft.ROOT}/images_{name}.txt"] = text([image for image, _ in rows])
    if pictures:
        images = sorted({image for rows in splits.values() for image, _ in rows})
        files |= {
            f"{aircraft.ROOT}/images/{image}.jpg": jpeg(k, 30) for k, image in enumerate(images)
        }
    return files


def dog_lists(splits: Mapping[str, list[tuple[str, int]]]) -> dict[str, bytes]:
    """`splits` has file and label, from 1, of train and test; file_list.mat is made of both."""
    parts = {**splits, "file": [*splits["train"], *splits["test"]]}
    return {
        f"{name}_list.mat": mat(
            file_list=cells([file for file, _ in rows], (-1, 1)),
            annotation_list=cells([file.removesuffix(".jpg") for file, _ in rows], (-1, 1)),
            labels=np.array([[label] for _, label in rows], np.uint8),
        )
        for name, rows in parts.items()
    }


def car_annotations(rows: list[tuple[str, int]]) -> bytes:
    """A struct array with bounding boxes, class from 1 and fname."""
    kinds = [
        ("bbox_x1", object),
        ("bbox_y1", object),
        ("bbox_x2", object),
        ("bbox_y2", object),
        ("class", object),
        ("fname", object),
    ]
    return mat(annotations=np.array([[(1, 2, 3, 4, label, file) for file, label in rows]], kinds))


def car_devkit(names: list[str], train: list[tuple[str, int]]) -> dict[str, bytes]:
    return {
        "devkit/cars_meta.mat": mat(class_names=cells(names, (1, -1))),
        "devkit/cars_train_annos.mat": car_annotations(train),
        "devkit/cars_test_annos.mat": car_annotations(
            [("00001.jpg", 1)]
        ),  # in truth without labels
    }


def pascal_files(
    splits: Mapping[str, list[str]], masks: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, bytes]:
    """`splits` has the names of train and val; `masks` SegmentationObject and SegmentationClass of an image."""
    both = {**splits, "trainval": sorted([*splits["train"], *splits["val"]])}
    files = {
        f"{pascal.ROOT}/ImageSets/Segmentation/{name}.txt": text(names)
        for name, names in both.items()
    }
    files[f"{pascal.ROOT}/ImageSets/Main/train.txt"] = b"2008_000008\n"
    for number, (image, (objects, classes)) in enumerate(masks.items()):
        files[f"{pascal.ROOT}/JPEGImages/{image}.jpg"] = jpeg(number, 40, size=objects.shape[::-1])  # type: ignore[arg-type]
        files[f"{pascal.ROOT}/SegmentationObject/{image}.png"] = palette(objects)
        files[f"{pascal.ROOT}/SegmentationClass/{image}.png"] = palette(classes)
    return files


MODULES: dict[str, tuple[Any, list[str]]] = {  # where each dataset's archives are named
    "cub": (cub, ["CUB"]), "waterbirds": (cub, ["WATERBIRDS"]), "aircraft": (aircraft, ["AIRCRAFT"]),
    "dogs": (dogs, ["IMAGES", "LISTS"]), "cars": (cars, ["TRAIN", "TEST", "DEVKIT", "TEST_LABELS"]),
    "flowers": (flowers, ["IMAGES", "LABELS"]), "pascal": (pascal, ["PASCAL"]),
}  # fmt: skip


def republish(monkeypatch, name: str, site: str, contents: list[bytes]) -> dict[str, bytes]:
    """Have a dataset's archives be these, at another address, with their checksums where one is published."""
    module, places = MODULES[name]
    published = {}
    for place, content in zip(places, contents, strict=True):
        archive: Archive = getattr(module, place)
        digest = archive.checksum and f"sha256:{hashlib.sha256(content).hexdigest()}"
        monkeypatch.setattr(module, place, Archive(archive.name, site, digest))
        published[archive.name] = content
    return published


def save(folder: Path, files: Files) -> Path:
    """Lay files out as an unpacked archive has them."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder
