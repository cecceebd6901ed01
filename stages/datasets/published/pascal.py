"""Pascal VOC 2012 as DA-Fusion (Trabucco et al., 2023) has it: 20 classes, 1464 and 1449 images.

The images are those of Segmentation/train.txt and val.txt (Sec. 7.3); an image is of the class of
its largest object. That is the object with the most pixels in SegmentationObject, background (0)
and void (255) aside. Its class stands in SegmentationClass at the object's first pixel, as in
DA-Fusion's code. The XML would not do: it does not say which object a mask belongs to. Address and
checksum are those of torchvision's VOCSegmentation, which reads no SegmentationObject.
"""

import io
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from PIL import Image
from tqdm.contrib.concurrent import thread_map

from stages.datasets.dataset import Dataset, Split
from stages.datasets.fetching.archives import Archive, Mirror, fetch
from stages.datasets.fetching.tars import Listed, Tar, assemble
from stages.shared.errors import BadInput
from stages.shared.tables import encode_png
from stages.shared.watching.progress import Progress

PASCAL = Archive(
    "VOCtrainval_11-May-2012.tar",
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/",
    "md5:6cd6e144f989b92b3379bac3b3de84fd",
)
ROOT = "VOCdevkit/VOC2012"
BACKGROUND = 0
VOID = 255
CLASSES = [  # VOC's order, in DA-Fusion's and Diff-Mix's words
    "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "dining table", "dog", "horse", "motorcycle", "person", "potted plant", "sheep", "sofa",
    "train", "television",
]  # fmt: skip


def read_pascal(mirror: Mirror) -> Dataset:
    """With the labelled object of each training image as its mask.

    Raises BadInput for an archive that cannot be fetched, or an image that cannot be read.
    """
    with fetch([PASCAL], mirror) as paths:
        return _read_tar(Tar(paths[0]))


def _read_tar(tar: Tar) -> Dataset:
    """The dataset of its open archive."""
    parts = {name: list_images(tar, file) for name, file in (("train", "train"), ("test", "val"))}

    def label(image: str) -> int:
        return find_object(tar, image)[0]

    splits = {}
    for name, images in parts.items():
        labels = thread_map(
            label, images, desc=f"labelling {name}", unit="image", tqdm_class=Progress
        )
        files = tar.members(f"{ROOT}/JPEGImages/{image}.jpg" for image in images)
        splits[name] = Listed(pd.DataFrame({"label": labels}), files)

    dataset = assemble(CLASSES, splits)
    dataset.splits["masks"] = Split(splits["train"].rows, _encode_masks(tar, parts["train"]))
    return dataset


def list_images(tar: Tar, split: str) -> list[str]:
    """The names of the images of train or val, without a suffix."""
    return tar.lines(f"{ROOT}/ImageSets/Segmentation/{split}.txt")


def find_object(tar: Tar, image: str) -> tuple[int, np.ndarray]:
    """The label of an image, and its largest object, bool (height, width)."""
    objects, classes = (
        _indices(tar, f"{ROOT}/Segmentation{kind}/{image}.png") for kind in ("Object", "Class")
    )

    label, mask = label_largest(objects, classes)
    if not 0 <= label < len(CLASSES):
        raise BadInput(f"{tar.path}: {image} has no object of a known class; get the archive anew")

    return label, mask


def label_largest(objects: np.ndarray, classes: np.ndarray) -> tuple[int, np.ndarray]:
    """DA-Fusion's rule for two index masks of the same size; label -1 where there is no object."""
    numbers, first, counts = np.unique(objects, return_index=True, return_counts=True)

    # by value: DA-Fusion drops the first and the last number, but the last is an object where
    # nothing is void
    counts[(numbers == BACKGROUND) | (numbers == VOID)] = 0

    largest = counts.argmax()
    label = int(classes.flat[first[largest]]) - 1 if counts[largest] else -1
    return label, objects == numbers[largest]


def _indices(tar: Tar, name: str) -> np.ndarray:
    """A palette PNG's own numbers, uint8 (height, width)."""
    try:
        with Image.open(io.BytesIO(tar.read(name)), formats=("PNG",)) as image:
            return np.asarray(image)
    except Exception as error:  # decoders raise anything
        raise BadInput(
            f"{tar.path}: {name}: is no readable mask ({type(error).__name__}); get it anew"
        ) from None


def _encode_masks(tar: Tar, images: Sequence[str]) -> Iterator[bytes]:
    """White (255) where the labelled object is, else black."""
    for image in images:
        _label, mask = find_object(tar, image)
        yield encode_png(Image.fromarray(np.uint8(255) * mask))
