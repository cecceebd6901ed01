"""Archives in the true layout of each dataset, with few or no images.

They are real .tgz, .tar and .mat files and palette PNGs. A file that no test reads is in them all
the same where the real archive has it and a loader could take it for the right one.
"""

import gzip
import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.io import savemat

from stages.datasets.fetching.archives import Archive
from stages.datasets.published import aircraft, cars, cub, dogs, flowers, pascal, waterbirds

Files = Mapping[str, bytes]


def pack(files: Files, gzipped: bool = True) -> bytes:
    """A tar of these files."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))

    plain = buffer.getvalue()
    return gzip.compress(plain, 1, mtime=0) if gzipped else plain


def jpeg(number: int, kind: int = 0, size: tuple[int, int] = (8, 6)) -> bytes:
    """A picture of one colour; numbers below 16, and kinds ten apart, give different ones."""
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
    """A MATLAB file of these variables."""
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
    lists: dict[str, Sequence[object]] = {
        "classes": folders,
        "images": paths,
        "image_class_labels": [label + 1 for label, _, _ in images],
        "train_test_split": [int(train) for _, _, train in images],
    }

    files = {"attributes.txt": b"1 has_bill_shape::curved_(up_or_down)\n"}
    for name, values in lists.items():
        numbered = [f"{number} {value}" for number, value in enumerate(values, start=1)]
        files[f"CUB_200_2011/{name}.txt"] = text(numbered)
    if pictures:
        files |= {f"CUB_200_2011/images/{path}": jpeg(k, 10) for k, path in enumerate(paths)}

    return files


def waterbird_files(
    rows: list[tuple[str, int, int, int]], pictures: bool = True
) -> dict[str, bytes]:
    """`rows` has img_filename, y, split and place, as metadata.csv calls them."""
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
    root = aircraft.ROOT
    lists = {**splits, "trainval": [*splits["train"], *splits["val"]]}
    files = {
        f"{root}/variants.txt": text(variants),
        f"{root}/families.txt": b"Boeing 737\n",
    }

    for name, rows in lists.items():
        lines = [f"{image} {variant}" for image, variant in rows]
        files[f"{root}/images_variant_{name}.txt"] = text(lines)
        files[f"{root}/images_{name}.txt"] = text([image for image, _ in rows])

    if pictures:
        images = sorted({image for rows in splits.values() for image, _ in rows})
        files |= {f"{root}/images/{image}.jpg": jpeg(k, 30) for k, image in enumerate(images)}

    return files


def dog_lists(splits: Mapping[str, list[tuple[str, int]]]) -> dict[str, bytes]:
    """`splits` has file and label, from 1, of train and test; file_list.mat is made of both."""
    lists = {**splits, "file": [*splits["train"], *splits["test"]]}

    files = {}
    for name, rows in lists.items():
        files[f"{name}_list.mat"] = mat(
            file_list=cells([file for file, _ in rows], (-1, 1)),
            annotation_list=cells([file.removesuffix(".jpg") for file, _ in rows], (-1, 1)),
            labels=np.array([[label] for _, label in rows], np.uint8),
        )

    return files


def car_annotations(rows: list[tuple[str, int]]) -> bytes:
    """A struct array with bounding boxes, class from 1 and fname."""
    names = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname")
    fields = [(name, object) for name in names]
    return mat(annotations=np.array([[(1, 2, 3, 4, label, file) for file, label in rows]], fields))


def car_devkit(names: list[str], train: list[tuple[str, int]]) -> dict[str, bytes]:
    return {
        "devkit/cars_meta.mat": mat(class_names=cells(names, (1, -1))),
        "devkit/cars_train_annos.mat": car_annotations(train),
        # the real one has no labels
        "devkit/cars_test_annos.mat": car_annotations([("00001.jpg", 1)]),
    }


def pascal_files(
    splits: Mapping[str, list[str]], masks: Mapping[str, tuple[np.ndarray, np.ndarray]]
) -> dict[str, bytes]:
    """`splits` has the image names of train and val.

    `masks` has SegmentationObject and SegmentationClass of each image, int (height, width).
    """
    root = pascal.ROOT
    lists = {**splits, "trainval": sorted([*splits["train"], *splits["val"]])}
    files = {f"{root}/ImageSets/Main/train.txt": b"2008_000008\n"}
    for name, images in lists.items():
        files[f"{root}/ImageSets/Segmentation/{name}.txt"] = text(images)

    for number, (image, (objects, classes)) in enumerate(masks.items()):
        height, width = objects.shape
        files[f"{root}/JPEGImages/{image}.jpg"] = jpeg(number, 40, size=(width, height))
        files[f"{root}/SegmentationObject/{image}.png"] = palette(objects)
        files[f"{root}/SegmentationClass/{image}.png"] = palette(classes)

    return files


# for each dataset, the module and its constants that name the archives
MODULES: dict[str, tuple[Any, list[str]]] = {
    "cub": (cub, ["CUB"]),
    "waterbirds": (cub, ["WATERBIRDS"]),
    "aircraft": (aircraft, ["AIRCRAFT"]),
    "dogs": (dogs, ["IMAGES", "LISTS"]),
    "cars": (cars, ["TRAIN", "TEST", "DEVKIT", "TEST_LABELS"]),
    "flowers": (flowers, ["IMAGES", "LABELS"]),
    "pascal": (pascal, ["PASCAL"]),
}


def republish(monkeypatch, name: str, site: str, contents: list[bytes]) -> dict[str, bytes]:
    """Have a dataset's archives be these, at another address; returns them by file name.

    Where a checksum is published, it becomes that of the new content.
    """
    module, constants = MODULES[name]

    published = {}
    for constant, content in zip(constants, contents, strict=True):
        archive: Archive = getattr(module, constant)
        digest = archive.checksum and f"sha256:{hashlib.sha256(content).hexdigest()}"
        monkeypatch.setattr(module, constant, Archive(archive.name, site, digest))
        published[archive.name] = content

    return published


def save(folder: Path, files: Files) -> Path:
    """Lay files out as an unpacked archive has them."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return folder
