"""Stanford Dogs (Khosla et al., 2011): 120 breeds, 12000 and 8580 images (Table 8).

torchvision does not read it; train_list.mat and test_list.mat say which images are in which split.
"""

from stages.datasets.dataset import Dataset
from stages.datasets.fetching.archives import Archive, Mirror, fetch
from stages.datasets.fetching.tars import Tar, assemble, list_members, read_mat

SITE = "http://vision.stanford.edu/aditya86/ImageNetDogs/"
IMAGES = Archive(
    "images.tar", SITE, "sha256:a443fc2f9a851aa1a7b8e4fa4af94b8459fce2c9f5a2f4dd4669cf9673a4ec58"
)
LISTS = Archive(
    "lists.tar", SITE, "sha256:34b47cacd9a98b5d150e084f24d29391c084c55272295ec65c85651bc35f4d6c"
)


def read_dogs(mirror: Mirror) -> Dataset:
    """Raises BadInput for an archive that cannot be fetched, or an image that cannot be read."""
    with fetch([IMAGES, LISTS], mirror) as paths:
        images, lists = map(Tar, paths)
        classes, parts = list_images(lists)
        return assemble(classes, {name: list_members(images, part) for name, part in parts.items()})


def list_images(lists: Tar) -> tuple[list[str], dict[str, dict[str, int]]]:
    """The breeds, and of each split the members of images.tar with their labels."""
    parts: dict[str, dict[str, int]] = {}
    names: dict[int, str] = {}

    for split in ("train", "test"):
        # n02085620-Chihuahua/n02085620_5927.jpg and so on, with 1 to 120
        mat = read_mat(lists.read(f"{split}_list.mat"))
        pairs = zip(mat["file_list"], mat["labels"], strict=True)
        labels = {file: int(label) - 1 for file, label in pairs}

        names |= {label: class_name(file.split("/")[0]) for file, label in labels.items()}
        parts[split] = {f"Images/{file}": label for file, label in labels.items()}

    return [names[label] for label in sorted(names)], parts


def class_name(folder: str) -> str:
    """n02085620-Chihuahua is the Chihuahua; breeds have hyphens, too."""
    return folder.split("-", 1)[1].replace("_", " ")
