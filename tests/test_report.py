"""The page and the sheet of stages/report.py, made from a small workspace written by hand."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.report import Params, choose_translations, excludes_zero, main, target_weight
from stages.shared.mosaics import corner, fit
from stages.shared.params import leaves
from stages.shared.tables import encode_png, read_manifest, write_classes, write_manifest, write_table

NAMES = ["Dusk Lorrel", "<script>alert(1)</script>", 'Ærøs "O\'Fjord" / Κύκνος']
STRENGTHS = [0.5, 0.7, 0.9]
PER_CLASS = 3


def flat(colour: tuple[int, int, int]) -> bytes:
    return encode_png(Image.new("RGB", (32, 32), colour))


def real_colour(row: int) -> tuple[int, int, int]:
    return (20 + 20 * row, 40, 200)


def synthetic_colour(row: int) -> tuple[int, int, int]:
    """Red holds the reference's row, so that a cell tells where it belongs."""
    return (20 + 20 * (row // len(STRENGTHS)), 220, 60 * (row % len(STRENGTHS)))


def write_images(dropped: int, gen: bool) -> None:
    """Three real images a class; of each, one translation a strength towards the next class."""
    data = Path("data")
    labels = np.repeat(range(len(NAMES)), PER_CLASS)
    write_table(data / "download/train", map(flat, map(real_colour, range(9))), pd.DataFrame({"label": labels}))
    write_classes(data / "download", NAMES, "bird")
    real = read_manifest(data / "download/train")
    for folder in ("subsample", "filter"):
        (data / folder).mkdir()
    write_manifest(data / "subsample", real)
    source = np.repeat(range(9), len(STRENGTHS))
    target = (labels[source] + 1) % len(NAMES)
    rows = pd.DataFrame({"label": target, "source_key": "" if gen else real["key"].to_numpy()[source]})
    rows["source_label"] = -1 if gen else labels[source]
    rows["target_label"], rows["strength"], rows["seed"] = target, 1.0 if gen else STRENGTHS * 9, range(27)
    write_table(data / "synthesize", map(flat, map(synthetic_colour, range(27))), rows)
    scored = read_manifest(data / "synthesize").assign(score=np.linspace(0.1, 0.9, 27).round(3))
    write_manifest(data / "filter", scored.iloc[dropped:])
    write_manifest(data / "filter", scored.iloc[:dropped], "dropped.csv")


def write_metrics(waterbird: bool, shots: bool) -> None:
    groups = dict.fromkeys(["waterbird_water", "waterbird_land", "landbird_land", "landbird_water"], 61.25)
    arm: dict[str, Any] = {"top1": 71.25, "top1_std": 1.5}
    arm |= {"waterbird": {"average": 61.25, "worst": 12.34, "groups": groups}} if waterbird else {}
    arm |= {"many": 90.0, "medium": 70.0, "few": 33.33} if shots else {}
    gain: dict[str, Any] = {"top1": 2.5, "top1_ci": [0.5, 4.5]}
    gain |= {"waterbird_worst": -7.77, "waterbird_worst_ci": [-9.0, 1.0]} if waterbird else {}
    evaluation = {"arms": {"a<b>": arm, "baseline": arm}, "gain": {"a<b>": gain}}
    Path("metrics/train").mkdir(parents=True)
    Path("metrics/evaluate.json").write_text(json.dumps(evaluation))
    Path("metrics/filter.json").write_text('{"kept": 24, "dropped": 3, "score_mean": 0.5, "threshold": 0.2}')
    Path("metrics/per_class.csv").write_text(
        'class,train_images,a<b>,baseline\n"<script>alert(1)</script>",3,66.67,\nDusk Lorrel,3,50.0,40.0\n'
    )
    for name in ("a<b>", "baseline"):
        history = (
            "trial,epoch,loss,accuracy,learning_rate\n0,1,2.0,30,0.1\n0,2,1.0,60,0.1\n1,1,2.2,28,0.1\n1,2,1.1,57,0.1\n"
        )
        Path(f"metrics/train/{name}.csv").write_text(history)


def make_page(waterbird: bool = True, shots: bool = True, dropped: int = 3, gen: bool = False) -> str:
    """Write a workspace where the test stands, run the stage, return the page."""
    Path("params.yaml").write_text("synth: {gamma: 0.5, steps: 25}\n")
    write_images(dropped, gen)
    write_metrics(waterbird, shots)
    main()
    return Path("metrics/report.html").read_text()


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_gamma_is_the_only_parameter():
    assert leaves(Params) == ["synth.gamma"]


def test_page_loads_nothing_and_runs_nothing():
    page = make_page()
    assert not re.search(r"https?:|<script|<link|<iframe|@import|url\(\s*['\"]?[^#'\"]", page)
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 8 * 4 + 16 + 3  # eight strips, sixteen kept, three dropped
    assert all(source.startswith("data:image/webp;base64,") for source in sources)


def test_names_are_escaped():
    page = make_page()
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "a&lt;b&gt;" in page
    assert "a<b>" not in page
    assert "Ærøs &#34;O&#39;Fjord&#34; / Κύκνος" in page


def test_only_the_gain_whose_interval_excludes_zero_is_marked():
    page = make_page()
    assert '<span class="better">+2.50 *</span>' in page
    assert '<span class="">−7.77</span>' in page
    assert excludes_zero([-3.0, -0.01]) == "worse"
    assert excludes_zero([0.0, 1.0]) == ""


def test_soft_label_stands_by_each_strength():
    page = make_page()
    for strength, label in zip(STRENGTHS, ["0.71 / 0.29", "0.84 / 0.16", "0.95 / 0.05"], strict=True):
        assert f"s = {strength}" in page
        assert f"label {label}" in page


@pytest.mark.parametrize(("source", "target", "expected"), [(0, 1, 0.25), (1, 1, 1.0), (-1, 1, 1.0)])
def test_target_weight(source, target, expected):
    assert target_weight(source, target, 0.5, 2.0) == expected


def test_without_waterbird_groups_and_class_sizes():
    page = make_page(waterbird=False, shots=False)
    assert "Waterbird" not in page
    assert "medium" not in page
    assert "71.25" in page


def test_nothing_dropped():
    assert "Nothing was dropped." in make_page(dropped=0)


def test_images_from_noise_stand_beside_a_real_one_of_their_class():
    page = make_page(gen=True, dropped=0)
    assert "a real one" in page
    assert "reference</div>" not in page
    assert "label 1.00 target" in page
    pixels = np.asarray(Image.open("metrics/samples.png"))
    for target in range(len(NAMES)):
        x, y = corner(target, 0, 96, 2)
        assert tuple(pixels[y + 48, x + 48]) == real_colour(PER_CLASS * target)


def test_each_translation_stands_beside_its_own_reference():
    make_page(dropped=0)
    pixels = np.asarray(Image.open("metrics/samples.png"))
    seen = set()
    for row in range(8):
        x, y = corner(row, 0, 96, 2)
        reference = tuple(pixels[y + 48, x + 48])
        assert reference in [real_colour(number) for number in range(9)]
        seen.add(reference)
        for column in range(len(STRENGTHS)):
            x, y = corner(row, column + 1, 96, 2)
            assert tuple(pixels[y + 48, x + 48]) == (reference[0], 220, 60 * column)
    assert len(seen) == 8


def test_same_inputs_same_bytes():
    make_page()
    outputs = [Path("metrics/report.html"), Path("metrics/samples.png")]
    before = [output.read_bytes() for output in outputs]
    main()
    assert [output.read_bytes() for output in outputs] == before


def test_references_with_every_strength_and_new_classes_come_first():
    rows = pd.DataFrame(
        [("p", 0, 1, 0.5), ("q", 0, 1, 0.5), ("q", 0, 2, 0.9), ("r", 1, 0, 0.9), ("s", 0, 1, 0.9), ("s", 0, 1, 0.5)],
        columns=["source_key", "source_label", "target_label", "strength"],
    )
    assert choose_translations(rows, 3) == [[5, 4], [None, 3], [1, 2]]


@pytest.mark.parametrize(("size", "shown"), [((32, 32), (96, 96)), ((120, 100), (120, 100)), ((512, 256), (160, 80))])
def test_fit(size, shown):
    assert fit(Image.new("RGB", size)).size == shown


def test_a_missing_table_is_named():
    make_page()
    Path("metrics/evaluate.json").unlink()
    with pytest.raises(SystemExit, match=r"metrics/evaluate\.json: there is no such file"):
        main()
