"""Whatever params.yaml holds, it is a valid run or is refused with one line."""

import os
import string
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.check import ARMS, SCHEMAS, check
from stages.shared.errors import BadInput
from stages.shared.params import PATH, pick, read
from tests.support.closure import ROOT

TREES = [
    yaml.safe_load(path.read_text())
    for path in (ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml")))
]
LONG = "Ærø鳥🐦" * 2000
TEXTS = [
    "", " ", "~", "null", "none", "0.5", "../x", "/etc/passwd", "~nobody/x", "a/b", "a b", "<b>",
    "${seed}", "-rf", "<img src=x onerror=alert(1)>", "\0", "a\0b", "a\nb", "\ud800", "\u2028",
    "\x1b[31m", "{{ 7 }}", "x" * 300, LONG,
]  # fmt: skip
NUMBERS = [
    0, -1, 1, 2, 3, 2**31, 2**63 - 1, 2**63, 2**64, -(2**70), 10**400,
    0.5, -0.5, 1e-320, 1e300, 1e18,
]  # fmt: skip
ODD = [
    float("nan"), float("inf"), -float("inf"), True, False, None, b"\xff\0",
    [], {}, [[]], [[[1]]], {"": 1}, {1: 2},
]  # fmt: skip
NESTED = [
    [0.5, 0.5], [0.9, 0.1], [0.5, "a"], [10**400], [float("nan")],
    {"a": {"b": [1]}}, {None: None}, [None] * 5,
]  # fmt: skip
KEYS = [
    *TEXTS[:-1], 1, None, True, 0.5, "a.b", "synth.gamma", "seed", "strategy", "class",
    "train_images", "baseline",
]  # fmt: skip
VALUES = st.one_of(
    st.sampled_from([*TEXTS, *NUMBERS, *ODD, *NESTED]),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5), st.lists, max_leaves=8
    ),
)
NAMES = st.sampled_from(KEYS) | st.text(max_size=8) | st.integers()


@pytest.fixture(scope="module", autouse=True)
def here(tmp_path_factory):
    """A folder with the base models and room for a params.yaml."""
    folder = tmp_path_factory.mktemp("hostile")
    before = Path.cwd()

    (folder / "data").symlink_to(ROOT / "data")
    os.chdir(folder)
    yield
    os.chdir(before)


def node_paths(tree: dict, prefix: tuple = ()) -> list[tuple]:
    """The paths of all nodes below the top, inner ones too."""
    found = []

    for key, value in tree.items():
        found.append((*prefix, key))
        if isinstance(value, dict):
            found += node_paths(value, (*prefix, key))

    return found


@st.composite
def mutated(draw) -> dict:
    """A committed file with some nodes replaced, deleted, renamed or joined by an unknown one."""
    tree = deepcopy(draw(st.sampled_from(TREES)))

    for _ in range(draw(st.integers(1, 3))):
        *parents, name = draw(st.sampled_from(node_paths(tree) or [("seed",)]))
        node = tree
        for parent in parents:
            node = node[parent]

        kind = draw(st.sampled_from(["replace", "replace", "replace", "delete", "add", "rename"]))
        if kind == "add":
            node[draw(NAMES)] = draw(VALUES)
        elif kind == "replace":
            node[name] = draw(VALUES)
        elif (value := node.pop(name, None)) is not None and kind == "rename":
            node[draw(NAMES)] = value

    return tree


@st.composite
def with_arm(draw) -> dict:
    """The default with one more arm, of any name."""
    tree = deepcopy(TREES[0])
    group = tree["arms"][draw(st.sampled_from(["real", "synthetic"]))]
    group[draw(NAMES)] = dict(next(iter(group.values())))
    return tree


def refused(content: str | bytes) -> str:
    """The line with which the file is refused, "" for a valid one.

    Checks what all such lines have in common.
    """
    Path(PATH).write_bytes(content if isinstance(content, bytes) else content.encode())

    try:
        check(read())
    except BadInput as error:
        line = str(error)
        assert line.startswith("params.yaml: ")
        assert len(line) <= 400
        assert line.isprintable()  # no line end either
        return line

    return ""


def run_plan(tree: dict) -> list[str]:
    """Read every stage's parameters; returns the names of the arms."""
    for stage in SCHEMAS:
        pick(stage.Params, tree)

    arms = [(group, name) for group, names in tree["arms"].items() for name in names]
    for group, name in arms:
        pick(ARMS[group], tree, {"arm": f"arms.{group}.{name}"})

    return [name for _, name in arms]


def check_tree(tree: dict) -> None:
    """The tree is refused with one line, or every stage reads it and its arms' names are safe."""
    if refused(yaml.dump(tree, allow_unicode=True)):
        return

    for name in run_plan(read()):
        assert name.isascii()
        assert name[0].isalnum()
        assert set(name) <= set(string.ascii_letters + string.digits + "_-")
        assert len(name) <= 64


@settings(derandomize=True, deadline=None, max_examples=300, database=None)
@given(mutated())
def test_a_mutated_file_is_a_valid_run_or_one_line(tree):
    check_tree(tree)


@settings(derandomize=True, deadline=None, max_examples=60, database=None)
@given(with_arm())
def test_an_arm_of_any_name_is_safe_as_a_file_or_one_line(tree):
    check_tree(tree)


@settings(derandomize=True, deadline=None, max_examples=100, database=None)
@given(st.binary(max_size=60) | st.text(alphabet="a:-?&*!|>%@`{}[],#'\"\t\n 1.0", max_size=40))
def test_a_file_of_anything_is_one_line(content):
    assert refused(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize(
    "value", [*TEXTS, *NUMBERS, *ODD, *NESTED], ids=lambda value: repr(value)[:20]
)
@pytest.mark.parametrize(
    "path", ["seed", "synth.gamma", "data.folder.path", "data.metaclass", "base.id", "arms.real"]
)
def test_a_hostile_value_of_a_delicate_parameter_is_a_valid_run_or_one_line(path, value):
    tree = deepcopy(TREES[0])
    *parents, name = path.split(".")
    node = tree
    for parent in parents:
        node = node[parent]
    node[name] = value

    check_tree(tree)


DEFAULT = (ROOT / "params.yaml").read_text()
BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("- 1\n- 2\n", "holds no parameters"),
        ("", "holds no parameters"),
        (b"\x00" * 50, "cannot be read"),
        (b"seed: \xff\xfe\n", "cannot be read"),
        ("\tseed: 0\n", "cannot be read"),
        ("--- 1\n--- 2\n", "cannot be read"),
        ("[" * 5000, "cannot be read"),
        ("{a: " * 3000, "cannot be read"),
        (DEFAULT + "seed: 1\n", 'found duplicate key "seed"'),
        (
            DEFAULT.replace("multiplier: 5", "gamma: 1\n  multiplier: 5"),
            'found duplicate key "gamma"',
        ),
        (
            DEFAULT.replace("seed: 0", "seed: !!python/object/apply:os.system ['false']"),
            "cannot be read",
        ),
        (DEFAULT.replace("seed: 0", "seed: !!int ''"), "cannot be read"),
        (DEFAULT.replace("seed: 0", "seed: !!bool x"), "cannot be read"),
        (DEFAULT.replace("seed: 0", "seed: 2026-99-99"), "cannot be read"),
        (DEFAULT.replace("seed: 0", "seed: " + "9" * 5000), "cannot be read"),
        (
            DEFAULT.replace("seed: 0", "seed: !!binary AAAA"),
            "seed: input should be a valid integer",
        ),
        (DEFAULT.replace("seed: 0", "seed: &a [*a]"), "seed: holds itself"),
        (
            "data: &a {data: *a}\n" + DEFAULT.replace("\ndata:", "\nmore:"),
            "data.data: holds itself",
        ),
        (BOMB + DEFAULT, "a0 is no parameter of any stage"),
        (DEFAULT.replace("seed: 0", "? [a]\n: 0"), "is no word"),
        (DEFAULT + "1: 2\n", "1 is no word"),
        (DEFAULT + "synth.gamma: 2\n", "'synth.gamma' cannot name a parameter"),
        (DEFAULT.replace("    cutmix: {", "    true: {"), "arms.real: True is no word"),
        (DEFAULT.replace("    cutmix: {", "    Baseline: {"), "baseline appears twice"),
        (DEFAULT.replace("    cutmix: {", "    -rf: {"), "'-rf' cannot be an arm's name"),
        (DEFAULT.replace("    cutmix: {", f"    {'x' * 65}: {{"), "cannot be an arm's name"),
        (
            DEFAULT.replace("gamma: 0.5", f"gamma: 1{'0' * 400}"),
            "synth.gamma: a number is beyond 64 bits",
        ),
        (DEFAULT.replace("id: data/base/toybirds/clip", f"id: {'x' * 5000}"), "clip.id: 'xxxx"),
    ],
    ids=lambda value: None if isinstance(value, bytes) or len(value) > 50 else value,
)
def test_an_odd_file_is_refused_for_what_is_odd(content, line):
    assert line in refused(content)


def test_an_alias_bomb_in_a_leaf_is_quoted_in_short():
    bomb = "&a0 [x, x]" + "".join(f", &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60))
    line = refused(DEFAULT.replace("strength: null", f"strength: [{bomb}]"))
    assert line.startswith("params.yaml: synth.strength.0: input should be a valid number")


def test_anchors_and_merges_that_make_sense_are_accepted():
    text = DEFAULT.replace("    baseline: {mix: none,", "    baseline: &b {mix: none,")
    head, tail = text.split("    cutmix: ", 1)
    merged = "    cutmix: {<<: *b, reweight: none}\n"
    following = tail[tail.index("synthetic") - 2 :]

    assert not refused(head + merged + following)
