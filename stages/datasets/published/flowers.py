"""Oxford Flowers (Nilsback and Zisserman, 2008): 102 classes, 4070 and 4119 images (Table 8).

Files, checksums and names are those of torchvision's Flowers102. The paper does not use its split
(1020, 1020, 6149), but pools all 8189 images. As in its code, each class is permuted, in the order
of the classes, and halved.
"""

import numpy as np

from stages.datasets.dataset import Dataset
from stages.datasets.fetching.archives import Archive, Mirror, fetch
from stages.datasets.fetching.tars import Tar, assemble, list_members, read_mat

SITE = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
IMAGES = Archive("102flowers.tgz", SITE, "md5:52808999861908f626f3c1f4e79d11fa")
LABELS = Archive("imagelabels.mat", SITE, "md5:e0620be6f572b9609742df49c70aed4d")
SPLIT_SEED = 0  # the official classifier's: a dataset has one split, whatever params.seed is

# by label; no archive holds them
NAMES = """
pink primrose, hard-leaved pocket orchid, canterbury bells, sweet pea, english marigold, tiger
lily, moon orchid, bird of paradise, monkshood, globe thistle, snapdragon, colt's foot, king
protea, spear thistle, yellow iris, globe-flower, purple coneflower, peruvian lily, balloon
flower, giant white arum lily, fire lily, pincushion flower, fritillary, red ginger, grape
hyacinth, corn poppy, prince of wales feathers, stemless gentian, artichoke, sweet william,
carnation, garden phlox, love in the mist, mexican aster, alpine sea holly, ruby-lipped cattleya,
cape flower, great masterwort, siam tulip, lenten rose, barbeton daisy, daffodil, sword lily,
poinsettia, bolero deep blue, wallflower, marigold, buttercup, oxeye daisy, common dandelion,
petunia, wild pansy, primula, sunflower, pelargonium, bishop of llandaff, gaura, geranium, orange
dahlia, pink-yellow dahlia, cautleya spicata, japanese anemone, black-eyed susan, silverbush,
californian poppy, osteospermum, spring crocus, bearded iris, windflower, tree poppy, gazania,
azalea, water lily, rose, thorn apple, morning glory, passion flower, lotus, toad lily, anthurium,
frangipani, clematis, hibiscus, columbine, desert-rose, tree mallow, magnolia, cyclamen,
watercress, canna lily, hippeastrum, bee balm, ball moss, foxglove, bougainvillea, camellia,
mallow, mexican petunia, bromelia, blanket flower, trumpet creeper, blackberry lily
"""
CLASSES = " ".join(NAMES.split()).split(", ")


def read_flowers(mirror: Mirror) -> Dataset:
    """Raises BadInput for an archive that cannot be fetched, or an image that cannot be read."""
    with fetch([IMAGES, LABELS], mirror) as (images, labels):
        parts = split_images(read_mat(labels.read_bytes())["labels"])

        tar = Tar(images)
        return assemble(CLASSES, {name: list_members(tar, part) for name, part in parts.items()})


def split_images(labels: np.ndarray) -> dict[str, dict[str, int]]:
    """Of each split the members with their labels.

    labels: int (n,), counted from 1; that of image_00001.jpg comes first.
    """
    rng = np.random.default_rng(SPLIT_SEED)
    parts: dict[str, dict[str, int]] = {"train": {}, "test": {}}

    for label in range(len(CLASSES)):
        images = np.flatnonzero(labels == label + 1) + 1
        images = images[rng.permutation(len(images))]
        half = len(images) // 2

        for part, chosen in (("train", images[:half]), ("test", images[half:])):
            parts[part] |= {f"jpg/image_{image:05d}.jpg": label for image in sorted(chosen)}

    return parts
