"""FGVC-Aircraft (Maji et al., 2013): 100 variants, 3334 images to train on and 3333 to test on.

These are its own train and test (Table 8); its val stays unused. Address and split are those of
torchvision's FGVCAircraft, which wants a folder and gives decoded images; a table holds the files
as they are.
"""

from stages.datasets.dataset import Dataset
from stages.datasets.fetching.archives import Archive, Mirror, fetch
from stages.datasets.fetching.tars import Tar, assemble, list_members

AIRCRAFT = Archive(
    "fgvc-aircraft-2013b.tar.gz",
    "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/",
    "md5:d4acdd33327262359767eeaa97a4f732",
)
ROOT = "fgvc-aircraft-2013b/data"


def read_aircraft(mirror: Mirror) -> Dataset:
    """Raises BadInput for an archive that cannot be fetched, or an image that cannot be read."""
    with fetch([AIRCRAFT], mirror) as paths:
        tar = Tar(paths[0])
        classes, parts = list_images(tar)
        return assemble(classes, {name: list_members(tar, part) for name, part in parts.items()})


def list_images(tar: Tar) -> tuple[list[str], dict[str, dict[str, int]]]:
    """The variants, and of each split the members with their labels."""
    classes = tar.lines(f"{ROOT}/variants.txt")
    labels = {name: label for label, name in enumerate(classes)}

    parts = {}
    for split in ("train", "test"):
        pairs = [line.split(" ", 1) for line in tar.lines(f"{ROOT}/images_variant_{split}.txt")]
        parts[split] = {f"{ROOT}/images/{image}.jpg": labels[name] for image, name in pairs}

    return classes, parts
