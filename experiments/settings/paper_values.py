"""The values of the paper's settings, by the dotted path of params.yaml.

experiments.presets makes presets of them. A value stands alone where the comment in params.yaml
fits it. "The official code" is Zhicaiwww/Diff-Mix at a81337b, its "earlier scripts" are those at
b65c233, before they were tidied.
"""

from typing import Any, NamedTuple

# from a dotted path to a value, a Commented one or, for a group of arms, the arms by name
Settings = dict[str, Any]


class Commented(NamedTuple):
    """A value with a comment of its own."""

    value: Any
    comment: str


def real(mix: str = "none", probability: float = 0.0, reweight: str = "none") -> dict[str, Any]:
    """An arm of real images alone."""
    return {"mix": mix, "mix_probability": probability, "reweight": reweight}


def synthetic(p: float, mix: str = "none", probability: float = 0.0) -> dict[str, Any]:
    """An arm that replaces real images with probability p."""
    return {"p": p, "labels": "eq3"} | real(mix, probability)


BASELINE = real()
CUTMIX = Commented(
    real("cutmix", 0.1), "Sec. 7.4, as in the earlier scripts; the last ones leave it at 0.5"
)
MIXUP = Commented(real("mixup", 0.3), "likewise")

DIFFMIX: Settings = {  # Sec. 3 and 4, Table 7
    "method": "diff-mix",
    "base.id": Commented(
        "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "Table 7, on the Hugging Face hub; or its folder",
    ),
    "base.revision": "451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    "finetune.lora_rank": 10,
    "finetune.learning_rate": Commented(0.00005, "of LoRA (Table 7)"),
    "finetune.token_learning_rate": Commented(0.00005, "of the new tokens (Table 7)"),
    "finetune.weight_decay": Commented(0.01, "the official code's; the paper gives none"),
    "finetune.steps": Commented(35000, "Table 7"),
    "finetune.batch": Commented(8, "Table 7; of all processes together"),
    "finetune.class_balanced": Commented(
        False, "draw all images alike, as the official code but for long tails; true: all classes"
    ),
    "finetune.resolution": Commented(512, "pixels a side (Table 7); 224 in the official scripts"),
    "synth.strength": Commented(
        None, "s, drawn from [0.5, 0.7, 0.9] (Sec. 4.2), to which the official code adds 0.3"
    ),
    "synth.multiplier": 5,
    "synth.gamma": Commented(
        0.5, "of Eq. 3: the target's label weighs s^gamma (Sec. 4.2; 0.8 in the official scripts)"
    ),
    "synth.steps": 25,
    "synth.guidance_scale": Commented(7.5, "Table 7"),
    "synth.resolution": Commented(512, "pixels a side (Sec. 7.5)"),
    "synth.batch": Commented(
        8, "images a forward pass, meant for a GPU of 24 GB. A parameter, since it moves last bits"
    ),
    "clip.id": Commented(
        "openai/clip-vit-base-patch32", "supplement, on the Hugging Face hub; or its folder"
    ),
    "clip.revision": Commented(
        "c237dc49a33fc61debc9276459120b7eac67e7ef", "the hub's commit, one that has safetensors"
    ),
}

DATASETS: dict[str, tuple[str, Settings]] = {
    "cub": ("CUB", {"data.name": "cub", "data.metaclass": "bird"}),
    "aircraft": ("FGVC Aircraft", {"data.name": "aircraft", "data.metaclass": "aircraft"}),
    "flowers": ("Oxford Flowers", {"data.name": "flowers", "data.metaclass": "flower"}),
    "dogs": ("Stanford Dogs", {"data.name": "dogs", "data.metaclass": "dog"}),
    "cars": (
        "Stanford Cars",
        {
            "data.name": "cars",
            "data.metaclass": "car",
            "data.url": Commented(
                None,
                "their own site has gone: set this to the address of a folder that mirrors it, ...",
            ),
            "data.archive": Commented(
                None, "... or this to the folder that holds the four archives"
            ),
        },
    ),
}
MANY = "classes with more training images than this are many-shot"
SHOT_GROUPS: dict[str, Settings] = {
    "cub": {"evaluate.many": 20, "evaluate.few": 5},
    "flowers": {
        "evaluate.many": Commented(30, f"{MANY} (Sec. 7.4)"),
        "evaluate.few": Commented(10, "with fewer than this, few-shot (Sec. 7.4)"),
    },
    "others": {
        "evaluate.many": Commented(20, f"{MANY}; the paper groups long tails alone"),
        "evaluate.few": Commented(5, "with fewer than this, few-shot"),
    },
}

TRAIN: Settings = {  # Table 9, which is CUB's; the official code's for the rest
    "train.pretrained": True,
    "train.padding": Commented(8, "of the random crop (the official code's)"),
    "train.momentum": 0.9,
    "train.weight_decay": Commented(0.00005, "Table 9; 0.0005 in the official scripts"),
    "train.schedule": "cosine",
    "train.augmentation": "crop",
    "train.warmup": Commented(
        0.1,
        "share of the steps with a rising learning rate (the official code's); then the schedule",
    ),
    "train.label_smoothing": 0.1,
}
MIXED: Settings = {  # where an arm has CutMix or Mixup
    "train.weight_decay": Commented(
        0.00005,
        "Table 9; 0.0005 in the official scripts. One for all arms: "
        "CutMix and Mixup have 0.00001 in Sec. 7.4",
    ),
}
RESNET50_448: Settings = TRAIN | {
    "train.architecture": "resnet50",
    "train.resize": Commented(512, "pixels a side before the crop (the official code's)"),
    "train.resolution": Commented(448, "pixels a side after it (Sec. 4.2)"),
    "train.batch": Commented(64, "Table 9"),
}
VIT_384: Settings = TRAIN | {
    "train.architecture": Commented(
        "vit_b_16", "small_resnet, or torchvision's resnet18, resnet50, vit_b_16 (Table 9)"
    ),
    "train.pretrained": Commented(
        True, "IMAGENET1K_SWAG_E2E_V1, as in the official code; the paper says ImageNet-21K"
    ),
    "train.resize": Commented(440, "pixels a side before the crop (the official code's)"),
    "train.resolution": Commented(384, "pixels a side after it (Sec. 4.2)"),
    "train.batch": Commented(32, "Table 9"),
}
RESNET50_224: Settings = TRAIN | {
    "train.architecture": "resnet50",
    "train.resize": Commented(256, "pixels a side before the crop (the official code's)"),
    "train.resolution": Commented(224, "pixels a side after it (Sec. 4.1)"),
    "train.epochs": Commented(128, "Table 9"),
    "train.batch": Commented(256, "Sec. 7.4"),
    "train.learning_rate": Commented(0.05, "Sec. 7.4, as in the official scripts"),
    "train.trials": Commented(3, "classifiers an arm, with seeds seed, seed + 1, ... (Sec. 7.4)"),
}
ONE_IN_CODE = Commented(
    3,
    "classifiers an arm, with seeds seed, seed + 1, ...; "
    "one in the official scripts, none said in the paper",
)

CUBS = "the paper gives CUB's alone"
RATES: dict[str, dict[str, Commented]] = {
    "resnet50": {
        "cub": Commented(
            0.02,
            "Table 9; 0.025 in the earlier scripts at 448 pixels, 0.05 in the last ones at 224",
        ),
        "aircraft": Commented(
            0.05, f"of the earlier scripts at 448 pixels, 0.1 in the last ones at 224; {CUBS}"
        ),
        "flowers": Commented(0.05, f"of all official scripts; {CUBS}"),
        "dogs": Commented(0.005, f"of the earlier scripts, 0.001 in the last ones; {CUBS}"),
        "cars": Commented(
            0.05, f"of the earlier scripts at 448 pixels, 0.1 in the last ones at 224; {CUBS}"
        ),
    },
    "vit": {
        "cub": Commented(0.001, "Table 9, as in all official scripts"),
        "aircraft": Commented(0.001, f"of all official scripts; {CUBS}"),
        "flowers": Commented(0.0005, f"of all official scripts; {CUBS}"),
        "dogs": Commented(0.00001, f"of all official scripts; {CUBS}"),
        "cars": Commented(0.001, f"of all official scripts; {CUBS}"),
    },
}
EPOCHS = {  # of the earlier scripts
    "resnet50": {"cub": "128", "aircraft": "150", "flowers": "150", "dogs": "40", "cars": "150"},
    "vit": {"cub": "128", "aircraft": "150", "flowers": "150", "dogs": "40", "cars": "150 or 40"},
}

# Sec. 4.3 and 7.4; the classifier's values are the official code's, which builds on CMO's
LONG_TAIL: Settings = {
    "subset.mode": "long-tail",
    "subset.exponent": "n-2",
    "finetune.class_balanced": Commented(
        True, "draw all classes alike, as the official code for long tails (finetune_imb.sh)"
    ),
    "synth.strength": Commented([0.7], "s, of every image (Sec. 4.3)"),
    "synth.multiplier": Commented(
        5,
        "synthetic images for each training image (Sec. 4), most for the tail (Sec. 7.4); "
        "alike in the official code",
    ),
    "synth.gamma": Commented(
        0.5, "of Eq. 3: the target's label weighs s^gamma (Sec. 4.3; 0.8 in the official scripts)"
    ),
    "train.architecture": "resnet50",
    "train.pretrained": True,
    "train.resize": Commented(
        256,
        "pixels a side before the crop: all images are squeezed alike; "
        "the official code crops whole ones",
    ),
    "train.resolution": Commented(
        224, "pixels a side after it; this and what follows is the official code's, after CMO's"
    ),
    "train.padding": Commented(0, "of the random crop, which is another"),
    "train.epochs": 200,
    "train.batch": 128,
    "train.learning_rate": 0.005,
    "train.momentum": 0.9,
    "train.weight_decay": 0.0002,
    "train.schedule": "step",
    "train.augmentation": "resized-crop",
    "train.warmup": Commented(
        0.025, "share of the epochs with a rising learning rate: 5 of 200; then the schedule"
    ),
    "train.label_smoothing": Commented(0.0, "plain cross-entropy"),
    "train.trials": ONE_IN_CODE,
    "arms.real": {
        "baseline": Commented(BASELINE, "CE in Tables 2 and 3"),
        "cmo": Commented(
            real("cmo", 0.5),
            "mix: cmo pastes a piece of an image of a rare class (Park et al., 2022)",
        ),
        "cmo-drw": Commented(
            real("cmo", 0.5, "drw"),
            "reweight: drw from the schedule's first step on (Cao et al., 2019)",
        ),
    },
    "arms.synthetic": {"diffmix": Commented(synthetic(0.5), "p: Sec. 7.4")},
}
TABLE_10 = {  # training images by rho, of Eq. 4 with the official code's exponent
    "cub": {100: 1242, 50: 1427, 20: 1798, 10: 2238},
    "flowers": {100: 847, 50: 976, 20: 1238, 10: 1532},
}
