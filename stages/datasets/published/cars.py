"""Stanford Cars (Krause et al., 2013): 196 makes, models and years, 8144 and 8041 images (Table 8).

Their site has gone, so that the four files come from a mirror (data.url) or from a folder
(data.archive). Files, checksums and split are those of torchvision's StanfordCars, which cannot
fetch them and gives decoded images; a table holds the files as they are.
"""

from stages.datasets.dataset import Dataset
from stages.datasets.fetching.archives import Archive, Mirror, fetch
from stages.datasets.fetching.tars import Tar, assemble, list_members, read_mat

SITE = "https://ai.stanford.edu/~jkrause/"
TRAIN = Archive("cars_train.tgz", f"{SITE}car196/", "md5:065e5b463ae28d29e77c1b4b166cfe61")
TEST = Archive("cars_test.tgz", f"{SITE}car196/", "md5:4ce7ebf6a94d07f1952d94dd34c4d501")
DEVKIT = Archive("car_devkit.tgz", f"{SITE}cars/", "md5:c3b158d763b6e2245038c8ad08e45376")
TEST_LABELS = Archive(
    "cars_test_annos_withlabels.mat", f"{SITE}car196/", "md5:b0a2b23655a3edd16d84508592a98d10"
)


def read_cars(mirror: Mirror) -> Dataset:
    """Raises BadInput for an archive that cannot be fetched, or an image that cannot be read."""
    with fetch([TRAIN, TEST, DEVKIT, TEST_LABELS], mirror) as (train, test, devkit, labels):
        kit = Tar(devkit)
        classes = [str(name) for name in read_mat(kit.read("devkit/cars_meta.mat"))["class_names"]]

        train_images = list_images(kit.read("devkit/cars_train_annos.mat"), "cars_train")
        test_images = list_images(labels.read_bytes(), "cars_test")
        splits = {
            "train": list_members(Tar(train), train_images),
            "test": list_members(Tar(test), test_images),
        }
        return assemble(classes, splits)


def list_images(annotations: bytes, folder: str) -> dict[str, int]:
    """The members of an annotation file with their labels."""
    listed = read_mat(annotations)["annotations"]
    return {f"{folder}/{car['fname']}": int(car["class"]) - 1 for car in listed}
