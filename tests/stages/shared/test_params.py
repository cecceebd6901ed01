"""A wrong params.yaml ends in one line that names the file and the leaf."""

from pathlib import Path

import pytest
from pydantic import Field

from stages.shared.errors import BadInput
from stages.shared.params import Section, leaves, load, read


class Synth(Section):
    strength: float = Field(gt=0, le=1)
    steps: int = Field(ge=1)


class Params(Section):
    seed: int
    synth: Synth


GOOD = "seed: 3\nother: unread\nsynth: {strength: 0.5, steps: 25, gamma: 0.5}\n"


def written(folder: Path, text: str) -> Path:
    path = folder / "params.yaml"
    path.write_text(text)
    return path


def test_a_stage_gets_its_own_leaves_and_no_others(tmp_path):
    params = load(Params, path=written(tmp_path, GOOD))

    assert params.model_dump() == {"seed": 3, "synth": {"strength": 0.5, "steps": 25}}


def test_leaves_are_dotted_paths_below_their_sections():
    assert leaves(Params) == ["seed", "synth.strength", "synth.steps"]
    assert leaves(Params, {"synth": "arms.real.cutmix"}) == [
        "seed",
        "arms.real.cutmix.strength",
        "arms.real.cutmix.steps",
    ]


def test_a_whole_number_is_a_float(tmp_path):
    path = written(tmp_path, GOOD.replace("0.5, steps", "1, steps"))
    assert load(Params, path=path).synth.strength == 1.0


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seed: 3", "", "seed is missing"),
        ("strength:", "strenght:", "synth.strength is missing"),
        ("synth: {strength: 0.5, steps: 25, gamma: 0.5}", "synth: 4", "synth.strength is missing"),
        (
            "strength: 0.5",
            "strength: 1.5",
            "synth.strength: input should be less than or equal to 1 (it is 1.5)",
        ),
        (
            "strength: 0.5",
            "strength: .nan",
            "synth.strength: input should be a finite number (it is nan)",
        ),
        (
            "strength: 0.5",
            "strength: '0.5'",
            "synth.strength: input should be a valid number (it is '0.5')",
        ),
        ("steps: 25", "steps: 25.0", "synth.steps: input should be a valid integer (it is 25.0)"),
        ("steps: 25", "steps: true", "synth.steps: input should be a valid integer (it is True)"),
        ("seed: 3", "seed: [", "cannot be read"),
        (GOOD, "", "holds no parameters"),
    ],
)
def test_the_message_names_file_and_leaf(tmp_path, old, new, message):
    path = written(tmp_path, GOOD.replace(old, new))

    with pytest.raises(BadInput) as error:
        load(Params, path=path)

    assert str(error.value).startswith(f"{path}: {message}")
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(BadInput, match=r"absent\.yaml: cannot be read"):
        load(Params, path=tmp_path / "absent.yaml")


def test_a_small_number_is_read_as_dvc_writes_it(tmp_path):
    (tmp_path / "params.yaml").write_text("small: 5e-05\nlarge: 1E+6\nword: 5e-05x\n")

    assert read(tmp_path / "params.yaml") == {"small": 0.00005, "large": 1e6, "word": "5e-05x"}
