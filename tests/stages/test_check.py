"""check refuses every wrong params.yaml with one line that names the parameter."""

from copy import deepcopy

import pytest
import yaml

from stages.check import check, main
from tests.support.closure import ROOT

PARAMS = yaml.safe_load((ROOT / "params.yaml").read_text())
LCM = {"synth.sampler": "lcm", "synth.steps": 4}


def changed(path: str, value, tree=PARAMS) -> dict:
    """A copy of the parameters with another value at the dotted path."""
    tree = deepcopy(tree)
    *parents, name = path.split(".")

    node = tree
    for parent in parents:
        node = node[parent]
    node[name] = value

    return tree


def test_what_a_removed_arm_left_is_refused_before_anything_is_trained(tmp_path, monkeypatch):
    for name in ("baseline", "cutmix", "diffmix", "diffmix-cutmix", "gone", "lost"):
        (tmp_path / "data/train" / name).mkdir(parents=True)
    (tmp_path / "data/base").symlink_to(ROOT / "data/base")
    (tmp_path / "data/no-photos").mkdir()
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)

    line = (
        r"data/train/gone, data/train/lost: no arm of params.yaml's; "
        r"`rm -r data/train/gone data/train/lost`"
    )
    with pytest.raises(SystemExit, match=line):
        main()

    for name in ("gone", "lost"):
        (tmp_path / "data/train" / name).rmdir()
    main()

    assert (tmp_path / "data/check/ok").is_file()


def test_a_missing_folder_of_photos_is_refused_whatever_the_dataset(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    (tmp_path / "data/base").symlink_to(ROOT / "data/base")
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.chdir(tmp_path)
    line = r"data\.folder\.path: there is no folder data/no-photos; name the one"
    with pytest.raises(SystemExit, match=line):
        main()


def test_a_lost_embedded_base_is_got_back_from_git(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = r"base\.id: there is no .*; get it back with `git checkout data/base`"
    with pytest.raises(SystemExit, match=line):
        check(PARAMS)


def test_the_default_is_the_toybirds_preset():
    assert yaml.safe_load((ROOT / "presets/toybirds.yaml").read_text()) == PARAMS


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("synth.strength", [0.5, 1.5]),
        ("synth.strength", [0.0]),
        ("synth.strength", []),
        ("synth.gamma", -0.1),
        ("arms.synthetic.diffmix.p", 1.2),
        ("arms.real.cutmix.mix", "cutout"),
        ("arms.real.cutmix.mixx", "none"),
        ("base.id", "data/base"),
        ("base.id", "someone/model"),
        ("base", {"id": "someone/model", "revision": "main"}),
        ("clip", {"id": "someone/model", "revision": ""}),
        ("clip.id", "data/nowhere"),
        ("data.name", "cifar"),
        ("data.url", "a mirror"),
        ("data.url", "ftp://a.mirror"),
        ("data.waterbirds", "yes"),
        ("data.hub.revision", "main"),
        ("finetune.strategy", "lora"),
        ("filter.drop", 1.0),
        ("train.epochs", 0),
        ("train.architecture", "resnet49"),
        ("subset.imbalance_factor", 0.5),
        ("synth.guidance_scale", float("nan")),
        ("synth.guidance_stop", 0.0),
        ("synth.guidance_stop", 1.5),
        ("synth.sampler", "ddim"),
        ("synth.cache_interval", 1),
        ("synth.lcm_lora.id", ""),
    ],
)
def test_a_value_out_of_range_is_named(path, value):
    with pytest.raises(SystemExit) as caught:
        check(changed(path, value))

    line = str(caught.value)
    assert line.startswith(f"params.yaml: {path}")
    assert "\n" not in line


def test_a_misspelt_name_is_named_with_the_right_one():
    line = r"params.yaml: synth.gama is no parameter of any stage; did you mean synth.gamma"
    with pytest.raises(SystemExit, match=line):
        check(changed("synth.gama", 0.3))


def test_a_missing_name_is_named():
    tree = deepcopy(PARAMS)
    del tree["synth"]["strength"]
    with pytest.raises(SystemExit, match=r"params.yaml: synth.strength is missing"):
        check(tree)


def test_arms_without_a_baseline_are_refused():
    tree = deepcopy(PARAMS)
    del tree["arms"]["real"]["baseline"]
    with pytest.raises(SystemExit, match="baseline"):
        check(tree)


@pytest.mark.parametrize("name", ["a b", "a.b", "class"])
def test_an_arm_that_dvc_or_a_table_cannot_name_is_refused(name):
    tree = deepcopy(PARAMS)
    tree["arms"]["real"][name] = {"mix": "none", "mix_probability": 0.0, "reweight": "none"}
    with pytest.raises(SystemExit, match=r"^params.yaml: arms"):
        check(tree)


def test_a_group_without_arms_is_refused():
    with pytest.raises(SystemExit, match=r"params.yaml: arms: must hold the two groups"):
        check(changed("arms.synthetic", {}))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"arms.real.baseline.reweight": "drw"}, r"drw needs train.schedule step"),
        ({"arms.real.cutmix.mix": "cmo", "train.epochs": 7}, r"cmo needs at least 8 epochs"),
        (
            {"method": "real-gen", "finetune.strategy": "ti+db"},
            r"real-gen does not go with finetune.strategy ti\+db",
        ),
        (
            {"arms.real.baseline.reweight": "drw", "train.schedule": "step", "train.epochs": 4},
            r"drw needs at least 5 epochs",
        ),
        ({"synth.gamma": [0.1, 0.3]}, r"synth.gamma: has 2 numbers for 3 strengths"),
        (
            {"method": "diff-aug", "synth.gamma": [0.1, 0.3, 0.5]},
            r"synth.gamma: mode aug has no second class to weigh",
        ),
        ({"synth.steps": 4}, r"synth.steps: of 4 steps, strengths 0.5 and 0.7 would both run 2"),
        (
            {"synth.guidance_scale": 1.0, "synth.guidance_stop": 0.5},
            r"^params.yaml: synth: guidance_stop below 1.0 does not go with guidance_scale 1",
        ),
        (
            {"synth.lcm_lora.id": "owner/lora"},
            r"^params.yaml: synth: lcm_lora does not go with sampler dpm-solver\+\+; set sampler",
        ),
        (
            LCM | {"synth.lcm_lora.id": "owner/lora", "synth.lcm_lora.revision": "main"},
            r"^params.yaml: synth.lcm_lora.id: 'owner/lora' is no folder, and a hub id needs",
        ),
        (
            LCM | {"synth.lcm_lora.id": "data/base"},
            r"^params.yaml: synth.lcm_lora.id: 'data/base' lacks pytorch_lora_weights.safetensors",
        ),
        (
            LCM | {"synth.strength": [0.05, 0.5]},
            r"^params.yaml: synth.steps: sampler lcm has 2 of its 50 steps below strength 0.05",
        ),
        (
            {"method": "real-filtering", "filter.drop": 0.0},
            r"set filter.drop to null, or take real-gen",
        ),
        ({"data.metaclass": " "}, r"^params.yaml: data.metaclass"),
        (
            {"data.waterbirds": True},
            r"^params.yaml: data: waterbirds are species of cub, not of toybirds; set",
        ),
        (
            {"data.name": "hub"},
            r"^params.yaml: data: hub.id is null; a dataset of the hub needs id, revision",
        ),
        (
            {"method": "diff-aug", "synth.referable_classes": 3},
            r"mode aug takes no reference from another class",
        ),
        ({"synth.pairing": "adjacent"}, r"set synth.referable_classes"),
        (
            {"method": "diff-gen", "synth.keep_background": True},
            r"^params.yaml: synth.keep_background",
        ),
    ],
)
def test_combinations_that_make_no_sense_are_refused(changes, line):
    tree = deepcopy(PARAMS)
    for path, value in changes.items():
        tree = changed(path, value, tree)
    with pytest.raises(SystemExit, match=line):
        check(tree)


def test_few_steps_with_lcm_lora_are_accepted():
    tree = changed("synth.lcm_lora", {"id": "owner/lora", "revision": "0" * 40})
    for path, value in LCM.items():
        tree = changed(path, value, tree)
    check(tree)


def test_an_lcm_lora_that_cannot_be_fetched_shows_at_check(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    tree = changed("synth.lcm_lora", {"id": "owner/lora", "revision": "0" * 40})
    for path, value in LCM.items():
        tree = changed(path, value, tree)
    (tmp_path / "data").mkdir()
    (tmp_path / "data/base").symlink_to(ROOT / "data/base")
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(tree))
    monkeypatch.chdir(tmp_path)

    line = r"^params.yaml: synth.lcm_lora.id: 'owner/lora' is not whole in the cache"
    with pytest.raises(SystemExit, match=line):
        main()


def test_a_gamma_for_each_strength_is_accepted():
    check(changed("synth.gamma", [0.1, 0.3, 0.5]))


@pytest.mark.parametrize("name", ["cub", "aircraft", "flowers", "dogs", "cars", "pascal"])
def test_a_dataset_of_table_8_needs_no_more_than_its_name(name):
    check(changed("data.name", name))


def test_cub_may_have_waterbirds():
    check(changed("data.waterbirds", True, changed("data.name", "cub")))


def test_inception_needs_its_package(monkeypatch):
    monkeypatch.setattr("stages.shared.schemas.assess.find_spec", lambda name: None)
    line = r"assess.frechet: inception needs `pip install torch-fidelity`"
    with pytest.raises(SystemExit, match=line):
        check(changed("assess.frechet", "inception"))


def test_in_an_experiment_a_mistake_says_how_to_undo_it(tmp_path, monkeypatch):
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(changed("synth.strength", 0.7)))
    monkeypatch.chdir(tmp_path)
    mistake = r"synth.strength: input should be .*list"

    with pytest.raises(SystemExit, match=rf"{mistake}[^`]*$"):
        main()

    monkeypatch.setenv("DVC_EXP_NAME", "bold-name")
    with pytest.raises(SystemExit, match=rf"{mistake}.*set it right.*`git checkout params.yaml`"):
        main()
