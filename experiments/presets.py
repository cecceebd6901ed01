"""The presets: the paper's settings, the toy world and a folder of photos.

Each is a whole parameter file. `python -m experiments.presets` writes them, presets/*.yaml, from
presets/toybirds.yaml and what is below.
"""

from pathlib import Path
from typing import NamedTuple

from experiments.settings.paper_values import (
    BASELINE,
    CUTMIX,
    DATASETS,
    DIFFMIX,
    EPOCHS,
    LONG_TAIL,
    MIXED,
    MIXUP,
    ONE_IN_CODE,
    RATES,
    RESNET50_224,
    RESNET50_448,
    SHOT_GROUPS,
    TABLE_10,
    VIT_384,
    Commented,
    Settings,
    synthetic,
)
from experiments.settings.preset_text import read_head, render

FOLDER = Path("presets")
CUB = DATASETS["cub"][1]


class Preset(NamedTuple):
    """What a preset changes in Toybirds' file.

    `head` holds the lines above the parameters; None keeps Toybirds' own.
    """

    head: tuple[str, ...] | None
    settings: Settings


def how_to(name: str, others: str = "") -> tuple[str, ...]:
    """The end of a head: how to run the preset.

    The call `others` runs the other methods of its table or figure.
    """
    more = [f"# The other methods: `PRESET={name} {others}`."] if others else []

    return (
        f"# `cp presets/{name}.yaml params.yaml`, then `dvc repro`.",
        *more,
        "# Values are the paper's or, where it gives none, its official code's "
        "(Zhicaiwww/Diff-Mix at a81337b; its",
        "# earlier scripts at b65c233); comments say where the two differ.",
    )


def conventional(dataset: str, network: str) -> Preset:
    """A column of Table 1: all images of a dataset, at high resolution."""
    title, data = DATASETS[dataset]
    shown, architecture, epochs = {
        "resnet50": ("ResNet50 at 448 pixels", RESNET50_448, 128),
        "vit": ("ViT-B/16 at 384 pixels", VIT_384, 100),
    }[network]
    shot_groups = SHOT_GROUPS["cub" if dataset == "cub" else "others"]

    head = (
        f"# Conventional classification of {title} with {shown}: Sec. 4.2, Table 1.",
        *how_to(f"{dataset}-{network}", "make table1"),
    )

    table = "Table 9" if dataset == "cub" else "Table 9, which is CUB's"
    epochs_comment = f"{table}; {EPOCHS[network][dataset]} in the earlier scripts"
    settings: Settings = {
        "subset.mode": "full",
        "train.epochs": Commented(epochs, epochs_comment),
        "train.learning_rate": RATES[network][dataset],
        "train.trials": ONE_IN_CODE,
        "arms.real": {"baseline": BASELINE, "cutmix": CUTMIX, "mixup": MIXUP},
        "arms.synthetic": {
            "diffmix": synthetic(0.1),
            "diffmix-cutmix": synthetic(0.1, "cutmix", 0.1),
        },
    }

    return Preset(head, DIFFMIX | data | architecture | MIXED | shot_groups | settings)


def few_shot(shots: int | None, p: Commented) -> Preset:
    """A panel of Fig. 6: 1, 5, 10 or, with None, all images of a class."""
    word = "all" if shots is None else str(shots)
    head = (
        f"# Few-shot classification of CUB, {word}-shot, with ResNet50 at 224 pixels: "
        "Sec. 4.1, Fig. 6.",
        *how_to(f"cub-{word}-shot", f"python -m experiments.run fig6 '{word}-shot *'"),
    )

    subset: Settings = {"subset.mode": "few-shot", "subset.shots": shots}
    if shots is None:
        subset = {"subset.mode": "full"}

    # the earlier scripts have values of their own for all images
    gamma, epochs = (0.8, 128) if shots is None else (0.5, 100)
    settings: Settings = {
        "synth.strength": Commented(
            None, "s, drawn from [0.5, 0.7, 0.9] as in Sec. 4.2; Fig. 6 has one at a time"
        ),
        "synth.gamma": Commented(
            0.5,
            "of Eq. 3: the target's label weighs s^gamma; as in Sec. 4.2 (Sec. 4.1 gives none), "
            f"{gamma} in the earlier scripts",
        ),
        "train.epochs": Commented(128, f"Table 9; {epochs} in the earlier scripts"),
        "arms.real": {"baseline": BASELINE},
        "arms.synthetic": {"diffmix": Commented(synthetic(p.value), p.comment)},
    }

    return Preset(head, DIFFMIX | CUB | SHOT_GROUPS["cub"] | RESNET50_224 | subset | settings)


COLUMN = {100: "IF=100", 20: "IF=50", 10: "IF=10"}  # of Tables 2, 3 and 10, by rho


def long_tail(dataset: str, rho: int) -> Preset:
    """A column of Table 2 (CUB-LT) or Table 3 (Flower-LT); none of them for rho = 50."""
    title, data = DATASETS[dataset]
    table = 2 if dataset == "cub" else 3
    column = COLUMN.get(rho)

    if column:
        printed = f"the column {column} of Tables {table} and 10"
        rows = f"python -m experiments.run table{table} '{column} *'"
    else:
        printed = f"in no column of Tables {table} and 10"
        rows = ""
    misnamed = ", whose IF=50 is rho = 20" if rho in (50, 20) else ""

    head = (
        f"# Long-tail classification of {title}, rho = {rho}, with ResNet50 at 224 pixels: "
        f"Sec. 4.3, Table {table}.",
        f"# {TABLE_10[dataset][rho]} training images by Eq. 4: {printed}{misnamed}.",
        *how_to(f"{dataset}-longtail-{rho}", rows),
    )
    settings = LONG_TAIL | {"subset.imbalance_factor": rho}

    return Preset(head, DIFFMIX | data | SHOT_GROUPS[dataset] | settings)


WATERBIRD_SETTINGS: Settings = {
    "data.waterbirds": True,
    "subset.mode": "full",
    "train.resolution": Commented(
        224, "pixels a side after it (the official code's; Sec. 4.4 gives none)"
    ),
    "train.epochs": Commented(128, "Table 9; 120 in the official scripts"),
    "arms.real": {"baseline": BASELINE, "cutmix": CUTMIX},
    "arms.synthetic": {"diffmix": synthetic(0.1)},
}
WATERBIRD = Preset(
    (
        "# Background robustness: CUB's classifiers on Waterbird, with ResNet50 at 224 pixels: "
        "Sec. 4.4, Table 4.",
        "# The paper does not say how they are trained: as in Sec. 4.1, all-shot, "
        "and nearly as in the official code.",
        *how_to("waterbird", "make table4"),
    ),
    DIFFMIX | CUB | SHOT_GROUPS["cub"] | RESNET50_224 | MIXED | WATERBIRD_SETTINGS,
)

PASCAL_SETTINGS: Settings = {
    "data.name": "pascal",
    "data.metaclass": Commented(
        "object", "the common noun of all classes, in prompts; the official code has none"
    ),
    "subset.mode": "full",
    "train.resolution": Commented(
        224, "pixels a side after it (the official code's; Sec. 7.3 gives none)"
    ),
    "train.epochs": Commented(128, "as in Sec. 4.1; 100 in the earlier scripts"),
    "train.learning_rate": Commented(
        0.05, "as in Sec. 4.1, and in the earlier scripts; 0.01 in the last ones"
    ),
    "arms.real": {"baseline": BASELINE},
    "arms.synthetic": {"diffmix": synthetic(0.1)},
}
PASCAL = Preset(
    (
        "# A general dataset: Pascal, all-shot, with ResNet50 at 224 pixels: Sec. 7.3, Fig. 10b.",
        "# Fig. 10a is 5-shot: subset.mode few-shot, arms.synthetic.diffmix.p 0.3.",
        *how_to("pascal", "make fig10"),
    ),
    DIFFMIX | SHOT_GROUPS["others"] | RESNET50_224 | PASCAL_SETTINGS,
)

NOUN = Commented(
    None, "SET THIS to what all your classes are (dog, flower, car): it is in every prompt"
)
PHOTOS = Preset(
    (
        "# A folder of photos, at 64 pixels on two cores: a try of the pipeline without a GPU.",
        "# Photos into data/photos (or data.folder.path), their noun at data.metaclass; "
        "the rest can stay.",
    ),
    {
        "data.name": "folder",
        "data.metaclass": NOUN,
        "data.folder.path": "data/photos",
        "subset.mode": "full",
        "synth.multiplier": Commented(
            2, "synthetic images for each training image (5 in Sec. 4); few, for two cores"
        ),
        "train.epochs": 120,
        "arms.synthetic.diffmix": synthetic(0.1),
        "arms.synthetic.diffmix-cutmix": synthetic(0.1, "cutmix", 0.1),
        "evaluate.many": 20,
    },
)

PHOTOS_SD15_SETTINGS: Settings = {
    "data.name": "folder",
    "data.metaclass": NOUN,
    "data.folder.path": "data/photos",
    "subset.mode": Commented("full", "or few-shot, to learn from subset.shots photos a class"),
    "finetune.steps": Commented(
        5000, "about 6 for each training photo: Table 7's 35,000 are for CUB's 5,994"
    ),
    "finetune.class_balanced": Commented(
        True, "draw all classes alike, since photos of one's own are seldom so many of each"
    ),
    "train.batch": Commented(64, "256 in Sec. 7.4, for thousands of images"),
    "train.learning_rate": Commented(0.0125, "0.05 for the 256 of Sec. 7.4, by the batch"),
    "arms.real": {"baseline": BASELINE, "cutmix": CUTMIX},
    "arms.synthetic": {
        "diffmix": Commented(
            synthetic(0.1), "p: Sec. 4.1 has 0.5, 0.3 and 0.2 for 1, 5 and 10 photos a class"
        ),
        "diffmix-cutmix": synthetic(0.1, "cutmix", 0.1),
    },
}
PHOTOS_SD15 = Preset(
    (
        "# A folder of photos with Stable Diffusion 1.5, for a GPU: ResNet50 at 224 pixels.",
        "# Photos into data/photos (or data.folder.path), their noun at data.metaclass; "
        "the rest can stay.",
        "# First `make estimate PRESET=photos-sd15`: hours, memory, with GPU_PRICE= the price.",
    ),
    DIFFMIX | SHOT_GROUPS["others"] | RESNET50_224 | MIXED | PHOTOS_SD15_SETTINGS,
)

PHOTOS_SD15_8GB = Preset(
    (
        "# A folder of photos with Stable Diffusion 1.5, for a GPU of 8 GB: as photos-sd15, but in "
        "small batches.",
        "# Photos into data/photos (or data.folder.path), their noun at data.metaclass; "
        "the rest can stay.",
        "# First `make estimate PRESET=photos-sd15-8gb`: hours, memory, with GPU_PRICE= the price.",
    ),
    PHOTOS_SD15.settings
    | {
        "finetune.steps": Commented(
            10000, "about 12 for each training photo: batches are half of Table 7's"
        ),
        "finetune.batch": Commented(4, "8 in Table 7; of all processes together"),
        "finetune.learning_rate": Commented(
            0.000035, "of LoRA: 0.00005 in Table 7, by the root of the batch"
        ),
        "finetune.token_learning_rate": Commented(0.000035, "of the new tokens: likewise"),
        "synth.batch": Commented(4, "images a forward pass. A parameter, since it moves last bits"),
        "train.batch": Commented(32, "256 in Sec. 7.4, for thousands of images"),
        "train.learning_rate": Commented(0.00625, "0.05 for the 256 of Sec. 7.4, by the batch"),
    },
)

PRESETS: dict[str, Preset] = {
    "toybirds": Preset(None, {}),
    "photos": PHOTOS,
    "photos-sd15": PHOTOS_SD15,
    "photos-sd15-8gb": PHOTOS_SD15_8GB,
    **{
        f"{dataset}-{network}": conventional(dataset, network)
        for dataset in DATASETS
        for network in RATES
    },
    "cub-1-shot": few_shot(1, Commented(0.5, "p: Sec. 4.1")),
    "cub-5-shot": few_shot(5, Commented(0.3, "p: Sec. 4.1; 0.2 in the earlier scripts")),
    "cub-10-shot": few_shot(10, Commented(0.2, "p: Sec. 4.1; 0.1 in the earlier scripts")),
    "cub-all-shot": few_shot(None, Commented(0.1, "p: Sec. 4.1")),
    **{
        f"{dataset}-longtail-{rho}": long_tail(dataset, rho)
        for dataset, sizes in TABLE_10.items()
        for rho in sizes
    },
    "waterbird": WATERBIRD,
    "pascal": PASCAL,
}


def main() -> None:
    # not params.yaml, which may be another preset's
    template = (FOLDER / "toybirds.yaml").read_text()

    for name, preset in PRESETS.items():
        text = render(template, preset.head or read_head(template), preset.settings)
        (FOLDER / f"{name}.yaml").write_text(text)

    print(f"wrote {len(PRESETS)} files in {FOLDER}")


if __name__ == "__main__":
    main()
