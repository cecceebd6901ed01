"""The presets against the paper's printed numbers, the stages' own checks and DVC.

The last tests are of how a preset's text is made.
"""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from dvc.repo import Repo

from experiments.presets import FOLDER, PRESETS, read_head
from experiments.settings.paper_values import Commented
from experiments.settings.preset_text import render, spell
from experiments.tables.recipes import cases, read_preset
from stages import check, plan, subsample
from stages.shared.errors import BadInput
from stages.shared.params import lookup, pick, read
from tests.support.closure import ROOT

FIVE = ("cub", "aircraft", "flowers", "dogs", "cars")
CONVENTIONAL = [f"{dataset}-{network}" for dataset in FIVE for network in ("resnet50", "vit")]
FEW_SHOT = ["cub-1-shot", "cub-5-shot", "cub-10-shot", "cub-all-shot"]
LONG_TAIL = [
    f"{dataset}-longtail-{rho}" for dataset in ("cub", "flowers") for rho in (100, 50, 20, 10)
]
PHOTOS = ["photos", "photos-sd15", "photos-sd15-8gb"]  # whose metaclass the user sets
OWN = ["toybirds", *PHOTOS]  # in no table of the paper
PAPER = [*CONVENTIONAL, *FEW_SHOT, *LONG_TAIL, "waterbird", "pascal"]
TEMPLATE = (ROOT / "presets/toybirds.yaml").read_text()
# training images and classes: Table 8, and Sec. 7.3 for Pascal
SIZES = {
    "cub": (5994, 200), "aircraft": (3334, 100), "flowers": (4070, 102),
    "dogs": (12000, 120), "cars": (8144, 196), "pascal": (1464, 20),
}  # fmt: skip


def training_images(name: str) -> np.ndarray:
    """How many of each class the preset's subset has.

    The dataset's classes are taken as even as they can be.
    """
    tree = read_preset(name)
    images, classes = SIZES[tree["data"]["name"]]
    counts = np.bincount(np.arange(images) % classes)

    return subsample.wanted_sizes(counts, pick(subsample.Params, tree).subset)


def synthetic_images(name: str) -> int:
    """How many images the preset's plan asks for, in all classes together."""
    params = pick(plan.Params, read_preset(name))
    reverse = params.subset.mode == "long-tail"
    sizes = plan.target_sizes(training_images(name), params.synth.multiplier, reverse)

    return int(sizes.sum())


def test_the_committed_files_are_those_that_toybirds_and_the_settings_make():
    made = {
        name: render(TEMPLATE, preset.head or read_head(TEMPLATE), preset.settings)
        for name, preset in PRESETS.items()
    }
    committed = {path.stem: path.read_text() for path in FOLDER.glob("*.yaml")}

    assert committed == made, "run `make presets`"


def test_the_settings_of_the_paper_are_24_beside_the_toy_world_and_photos():
    assert sorted(PRESETS) == sorted([*OWN, *PAPER])
    assert len(PAPER) == 24


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_passes_the_check_and_reads_alike_by_yaml_1_1(name):
    tree = read(FOLDER / f"{name}.yaml")
    if name in PHOTOS:
        with pytest.raises(BadInput, match=r"data\.metaclass: is not set; set it to what all your"):
            check.check(tree)
        tree["data"]["metaclass"] = "dog"

    check.check(tree)
    tree = read(FOLDER / f"{name}.yaml")
    assert yaml.safe_load((FOLDER / f"{name}.yaml").read_text()) == tree


def comment_of(name: str, key: str) -> str:
    """The comment on the only line of the preset that gives this key a value."""
    text = (FOLDER / f"{name}.yaml").read_text()
    (comment,) = re.findall(rf"^ +{key}: [^#]*#(.*)$", text, flags=re.MULTILINE)
    return comment


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("key", ["resize", "padding", "schedule", "augmentation", "warmup"])
def test_no_section_is_cited_for_what_the_paper_does_not_say(name, key):
    """It has neither crop, padding, jitter and warm-up, nor the size before the crop."""
    assert not re.search(r"Sec\. |Table ", comment_of(name, key))


@pytest.mark.parametrize("name", PRESETS)
def test_the_rank_of_lora_is_section_3_3s_and_table_7s(name):
    assert comment_of(name, "lora_rank") == " Sec. 3.3, Table 7"


@pytest.mark.parametrize("name", PAPER)
def test_a_head_says_how_to_run_its_file_and_what_it_is_of_the_paper(name):
    head = " ".join(read_head((FOLDER / f"{name}.yaml").read_text()))

    assert f"cp presets/{name}.yaml params.yaml" in head
    assert re.search(r"Sec\. [47]\.\d, (Table [1-4]|Fig\. 6|Fig\. 10b)\.", head)


@pytest.mark.parametrize(
    ("dataset", "sizes"), [("cub", [1242, 1427, 1798, 2238]), ("flowers", [847, 976, 1238, 1532])]
)
def test_long_tails_have_table_10s_sizes(dataset, sizes):
    """Its columns 100, 50 and 10 print the first, third and fourth: 50 is rho = 20."""
    names = [f"{dataset}-longtail-{rho}" for rho in (100, 50, 20, 10)]
    assert [training_images(name).sum() for name in names] == sizes

    for name, size in zip(names, sizes, strict=True):
        text = (FOLDER / f"{name}.yaml").read_text()
        assert f"# {size} training images by Eq. 4" in text


def test_few_shots_have_their_number_of_each_class():
    assert [training_images(name).sum() for name in FEW_SHOT] == [200, 1000, 2000, 5994]


def test_all_images_are_used_elsewhere():
    named = {name: training_images(name).sum() for name in [*CONVENTIONAL, "waterbird", "pascal"]}

    assert named == {
        "cub-resnet50": 5994, "cub-vit": 5994, "aircraft-resnet50": 3334, "aircraft-vit": 3334,
        "flowers-resnet50": 4070, "flowers-vit": 4070, "dogs-resnet50": 12000, "dogs-vit": 12000,
        "cars-resnet50": 8144, "cars-vit": 8144, "waterbird": 5994, "pascal": 1464,
    }  # fmt: skip


def test_synthetic_images_are_five_for_each_real_one_and_most_for_the_tail():
    assert synthetic_images("cub-resnet50") == 29970  # "approximately 30,000" in Sec. 7.5
    others = ("aircraft", "flowers", "dogs", "cars")
    assert [synthetic_images(f"{dataset}-vit") for dataset in others] == [
        16670, 20350, 60000, 40720,
    ]  # fmt: skip
    assert [synthetic_images(name) for name in FEW_SHOT] == [1000, 5000, 10000, 29970]
    assert [synthetic_images(name) for name in LONG_TAIL] == [
        6210, 7135, 8990, 11190, 4235, 4880, 6190, 7660,
    ]  # fmt: skip
    assert [synthetic_images("waterbird"), synthetic_images("pascal")] == [29970, 7320]

    # the smallest class gets most
    real = training_images("cub-longtail-100")
    made = plan.target_sizes(real, 5, reverse=True)
    assert (real[0], made[0], real[-1], made[-1]) == (29, 5, 1, 145)


@pytest.mark.parametrize("name", PAPER)
def test_diffusion_has_table_7s_values(name):
    tree = read_preset(name)
    printed = {
        "method": "diff-mix", "base.id": "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "finetune.steps": 35000, "finetune.batch": 8, "finetune.resolution": 512,
        "finetune.learning_rate": 5e-5, "finetune.token_learning_rate": 5e-5,
        "finetune.lora_rank": 10, "synth.steps": 25, "synth.guidance_scale": 7.5,
        "synth.resolution": 512, "synth.gamma": 0.5, "clip.id": "openai/clip-vit-base-patch32",
        "filter.drop": None, "synth.strength": [0.7] if name in LONG_TAIL else None,
    }  # fmt: skip

    assert {path: lookup(tree, path) for path in printed} == printed
    assert all(re.fullmatch(r"[0-9a-f]{40}", tree[model]["revision"]) for model in ("base", "clip"))


TABLE_9 = {
    "cub-resnet50": {
        "architecture": "resnet50", "resolution": 448, "batch": 64, "epochs": 128,
        "learning_rate": 0.02, "momentum": 0.9, "weight_decay": 5e-5, "label_smoothing": 0.1,
        "pretrained": True, "schedule": "cosine",
    },
    "cub-vit": {
        "architecture": "vit_b_16", "resolution": 384, "batch": 32, "epochs": 100,
        "learning_rate": 0.001, "momentum": 0.9, "weight_decay": 5e-5, "label_smoothing": 0.1,
        "pretrained": True, "schedule": "cosine",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", CONVENTIONAL)
def test_conventional_classifiers_have_table_9s_values_but_for_the_rate_of_other_datasets(name):
    dataset, network = name.split("-")
    printed = TABLE_9[f"cub-{network}"]
    train = read_preset(name)["train"]

    differing = {path for path in printed if train[path] != printed[path]}
    expected = {
        "resnet50": {"cub": 0.02, "aircraft": 0.05, "flowers": 0.05, "dogs": 0.005, "cars": 0.05},
        "vit": {"cub": 0.001, "aircraft": 0.001, "flowers": 0.0005, "dogs": 0.00001, "cars": 0.001},
    }[network][dataset]  # fmt: skip

    assert train["learning_rate"] == expected
    assert differing <= {"learning_rate"}
    assert (train["resize"], train["padding"]) == ({"resnet50": 512, "vit": 440}[network], 8)


def test_few_shot_classifiers_have_section_7_4s_values_and_p_by_shots():
    wanted = {
        "architecture": "resnet50", "resolution": 224, "batch": 256, "learning_rate": 0.05,
        "epochs": 128, "weight_decay": 5e-5, "trials": 3,
    }  # fmt: skip

    for name in [*FEW_SHOT, "waterbird", "pascal"]:
        train = read_preset(name)["train"]
        assert {key: train[key] for key in wanted} == wanted

    arms = [read_preset(name)["arms"]["synthetic"]["diffmix"] for name in FEW_SHOT]
    assert [arm["p"] for arm in arms] == [0.5, 0.3, 0.2, 0.1]


def test_long_tails_alone_are_fine_tuned_with_all_classes_alike():
    """The official code's finetune_imb.sh passes `--task imbalanced`: a sampler of 1/n."""
    published = [name for name in PRESETS if name not in OWN]
    balanced = [name for name in published if read_preset(name)["finetune"]["class_balanced"]]
    assert balanced == [name for name in published if "longtail" in name]


@pytest.mark.parametrize("name", LONG_TAIL)
def test_long_tail_classifiers_have_the_official_codes_values_and_its_shot_groups(name):
    tree = read_preset(name)
    wanted = {
        "architecture": "resnet50", "pretrained": True, "resolution": 224, "batch": 128,
        "epochs": 200, "learning_rate": 0.005, "weight_decay": 2e-4, "schedule": "step",
        "augmentation": "resized-crop", "warmup": 0.025, "label_smoothing": 0.0,
    }  # fmt: skip
    assert {key: tree["train"][key] for key in wanted} == wanted

    groups = (tree["evaluate"]["many"], tree["evaluate"]["few"])
    assert groups == {"cub": (20, 5), "flowers": (30, 10)}[name.split("-")[0]]

    plain = {"mix": "none", "mix_probability": 0.0, "reweight": "none"}
    assert tree["arms"] == {
        "real": {
            "baseline": plain,
            "cmo": {"mix": "cmo", "mix_probability": 0.5, "reweight": "none"},
            "cmo-drw": {"mix": "cmo", "mix_probability": 0.5, "reweight": "drw"},
        },
        "synthetic": {"diffmix": {"p": 0.5, "labels": "eq3", **plain}},
    }


def test_table_1s_arms_mix_with_section_7_4s_ratios():
    for name in CONVENTIONAL:
        real, synthetic = read_preset(name)["arms"].values()

        ratios = {arm: (values["mix"], values["mix_probability"]) for arm, values in real.items()}
        assert ratios == {
            "baseline": ("none", 0.0), "cutmix": ("cutmix", 0.1), "mixup": ("mixup", 0.3),
        }  # fmt: skip

        ratios = {
            arm: (values["p"], values["mix"], values["mix_probability"])
            for arm, values in synthetic.items()
        }
        assert ratios == {
            "diffmix": (0.1, "none", 0.0), "diffmix-cutmix": (0.1, "cutmix", 0.1),
        }  # fmt: skip


def test_waterbirds_are_cubs_other_test_images():
    assert [name for name in PRESETS if read_preset(name)["data"]["waterbirds"]] == ["waterbird"]


TABLES = {
    "table1": CONVENTIONAL, "fig6": FEW_SHOT, "table2": LONG_TAIL[:4], "table3": LONG_TAIL[4:],
    "table4": ["waterbird"], "fig10": ["pascal"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("table", "name"), [(table, name) for table, names in TABLES.items() for name in names]
)
def test_a_presets_own_table_has_valid_rows_with_it(table, name):
    rows = cases(table, read_preset(name))
    assert len(rows) >= 5

    for params in {str(case.params): case.params for case in rows}.values():
        check.check(params)


ALWAYS = {
    "check", "download", "subsample", "method", "finetune", "plan", "synthesize", "filter",
    "assess", "attention", "evaluate", "report",
}  # fmt: skip
TRAINED = {
    "conventional": {
        "train_real@baseline", "train_real@cutmix", "train_real@mixup",
        "train@diffmix", "train@diffmix-cutmix",
    },
    "long-tail": {"train_real@baseline", "train_real@cmo", "train_real@cmo-drw", "train@diffmix"},
    "waterbird": {"train_real@baseline", "train_real@cutmix", "train@diffmix"},
    "two": {"train_real@baseline", "train@diffmix"},
    "toy": {"train_real@baseline", "train_real@cutmix", "train@diffmix", "train@diffmix-cutmix"},
}  # fmt: skip
KINDS = {
    **dict.fromkeys(CONVENTIONAL, "conventional"),
    **dict.fromkeys(LONG_TAIL, "long-tail"),
    **dict.fromkeys([*FEW_SHOT, "pascal"], "two"),
    **dict.fromkeys(OWN, "toy"),
    "waterbird": "waterbird",
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    """A DVC repository with the pipeline alone."""
    folder = tmp_path_factory.mktemp("scratch")
    shutil.copy(ROOT / "dvc.yaml", folder / "dvc.yaml")
    Repo.init(str(folder), no_scm=True)

    return folder


@pytest.mark.parametrize("name", PRESETS)
def test_a_dry_run_names_all_stages_and_the_presets_arms(name, scratch, monkeypatch):
    monkeypatch.chdir(scratch)
    shutil.copy(ROOT / FOLDER / f"{name}.yaml", scratch / "params.yaml")

    # by force, since there is no data whose state could be compared
    named = Repo(str(scratch)).reproduce(dry=True, force=True)

    assert {stage.addressing for stage in named} == ALWAYS | TRAINED[KINDS[name]]


SMALL = """\
# head
# of two lines
seed: 0 # of all

# how it is trained
train:
  rate: 0.1
  steps: 3 # many

arms: # to compare
  real: # without
    baseline: {mix: none} # plain
    cutmix: {mix: cutmix} # mixed
"""


def test_a_value_is_replaced_on_its_line_with_the_templates_comment_or_its_own():
    settings = {"train.rate": 0.00005, "train.steps": Commented(None, "none"), "seed": 7}

    expected = """\
# mine
seed: 7 # of all

# how it is trained
train:
  rate: 0.00005
  steps: null # none

arms: # to compare
  real: # without
    baseline: {mix: none} # plain
    cutmix: {mix: cutmix} # mixed
"""

    assert render(SMALL, ("# mine",), settings) == expected


def test_a_groups_arms_are_listed_anew_with_the_comments_of_those_that_stay():
    arms = {"baseline": {"mix": "none"}, "cmo": Commented({"mix": "cmo"}, "pasted")}
    assert render(SMALL, (), {"arms.real": arms}).endswith(
        "  real: # without\n    baseline: {mix: none} # plain\n    cmo: {mix: cmo} # pasted\n"
    )

    assert render(SMALL, (), {"arms.real.cutmix": {"mix": "mixup"}}).endswith(
        "    baseline: {mix: none} # plain\n    cutmix: {mix: mixup} # mixed\n"
    )


def test_a_group_with_another_number_of_arms_moves_no_line_around_it():
    followed = SMALL + "\nevaluate:\n  many: 10\n"
    settings = {"arms.real": {"a": 1, "b": 2, "c": 3}, "train.steps": 4, "evaluate.many": 20}

    assert render(followed, (), settings).endswith("""\
  steps: 4 # many

arms: # to compare
  real: # without
    a: 1
    b: 2
    c: 3

evaluate:
  many: 20
""")


def test_a_setting_without_a_line_is_refused():
    with pytest.raises(KeyError, match=r"the template has no line for train\.stpes"):
        render(SMALL, (), {"train.stpes": 3})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.00001, "0.00001"), (7.5, "7.5"), (0.0, "0.0"), (35000, "35000"), (True, "true"),
        (None, "null"), ([0.5, 0.7], "[0.5, 0.7]"), ("n-2", "n-2"),
        ({"p": 0.1, "mix": "none"}, "{p: 0.1, mix: none}"),
    ],
)  # fmt: skip
def test_values_are_spelled_as_yaml_1_1_reads_them(value, text):
    assert spell(value) == text
    assert yaml.safe_load(text) == value
