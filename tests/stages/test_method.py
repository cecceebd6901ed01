"""Every name of the paper is a point of the cube.

Overrides move it only where it stays that method.
"""

import pytest

from stages.method import write
from stages.shared.methods import METHODS, NAMES, Method, read_filter, read_mode, read_strategy
from stages.shared.schemas.method import Params, resolve


def chosen(method: str, strategy=None, strength=None, criterion=None, drop=None) -> Method:
    values = {
        "method": method, "finetune": {"strategy": strategy}, "synth": {"strength": strength},
        "filter": {"criterion": criterion, "drop": drop},
    }  # fmt: skip

    return resolve(Params.model_validate(values))


def test_the_cube_holds_every_name():
    assert set(METHODS) == set(NAMES)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("diff-mix", Method("ti+db", "mix", (0.5, 0.7, 0.9), 0.1, "metaclass")),
        ("real-guidance", Method("none", "aug", (0.1,), 0.0, "metaclass")),
        ("real-filtering", Method("none", "gen", (1.0,), 0.1, "metaclass")),
        ("da-fusion", Method("ti", "aug", (0.25, 0.5, 0.75, 1.0), 0.0, "metaclass")),
    ],
)
def test_a_name_stands_for_the_papers_choices(name, expected):
    assert chosen(name) == expected


def test_an_override_replaces_the_methods_own_choice():
    overridden = chosen("diff-mix", "ti", [0.3], "class", 0.0)
    assert overridden == Method("ti", "mix", (0.3,), 0.0, "class")


def test_real_filtering_is_real_gen_of_which_the_lowest_tenth_is_dropped():
    assert METHODS["real-filtering"] == METHODS["real-gen"]._replace(drop=0.1)


@pytest.mark.parametrize(
    ("choice", "complaint"),
    [
        (
            ("real-mix", "ti"),
            "real-mix does not go with finetune.strategy ti; set it to null, or take diff-*",
        ),
        (
            ("diff-mix", "none"),
            "diff-mix does not go with finetune.strategy none; set it to null, or take real-*",
        ),
        (("da-fusion", "ti+db"), "da-fusion is ti by definition"),
        (("diff-gen", None, [0.5]), "diff-gen starts from noise and has no strength"),
        (
            ("real-guidance", None, [0.5]),
            "strengths of its own; set synth.strength to null, or take real-aug",
        ),
        (
            ("real-filtering", None, None, None, 0.0),
            "real-filtering drops images; set filter.drop to null, or take real-gen",
        ),
        (
            ("real-gen", None, None, None, 0.2),
            "real-gen drops no image; set filter.drop to null, or take real-filtering",
        ),
    ],
)
def test_a_choice_that_makes_it_another_method_is_refused(choice, complaint):
    with pytest.raises(ValueError, match=complaint.replace("*", r"\*")):
        chosen(*choice)


def test_later_stages_read_what_was_resolved(tmp_path):
    write(chosen("da-fusion"), tmp_path)

    assert read_strategy(tmp_path) == "ti"
    assert read_mode(tmp_path) == ("aug", [0.25, 0.5, 0.75, 1.0])
    assert read_filter(tmp_path) == ("metaclass", 0.0)


def test_a_stage_before_method_has_run_says_so(tmp_path):
    complaint = r"finetune.json: there is no such file; run `dvc repro method` first"
    with pytest.raises(SystemExit, match=complaint):
        read_strategy(tmp_path)


@pytest.mark.parametrize(
    ("choice", "changed"),
    [
        (("diff-mix", "ti"), {"finetune.json"}),
        (("diff-mix", None, [0.7]), {"plan.json"}),
        (("diff-mix", None, None, "class"), {"filter.json"}),
        (("diff-mix", None, None, None, 0.2), {"filter.json"}),
        (("diff-mix", "ti+db", [0.5, 0.7, 0.9], "metaclass", 0.1), set()),
        (("diff-aug",), {"plan.json", "filter.json"}),
        (("real-mix",), {"finetune.json"}),
        (("da-fusion",), {"finetune.json", "plan.json", "filter.json"}),
        (("real-filtering",), {"finetune.json", "plan.json"}),
    ],
)
def test_another_choice_changes_only_the_files_of_the_stages_that_it_concerns(
    choice, changed, tmp_path
):
    before = tmp_path / "before"
    after = tmp_path / "after"
    write(chosen("diff-mix"), before)
    write(chosen(*choice), after)

    names = {path.name for path in before.iterdir()}
    same = {name for name in names if (before / name).read_bytes() == (after / name).read_bytes()}
    assert names - same == changed
