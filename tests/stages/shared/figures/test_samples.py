"""Which images stand beside which, on the page and on the sheet."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stages.report import SHEET_ROWS
from stages.shared.figures.mosaics import corner, fit
from stages.shared.figures.samples import choose_translations
from tests.support.report_workspace import NAMES, PER_CLASS, STRENGTHS, make_page, real_colour


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


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

    references = set()
    for row in range(SHEET_ROWS):
        x, y = corner(row, 0, 96, 2)
        reference = tuple(pixels[y + 48, x + 48])
        assert reference in [real_colour(number) for number in range(9)]
        references.add(reference)

        for column in range(len(STRENGTHS)):
            x, y = corner(row, column + 1, 96, 2)
            assert tuple(pixels[y + 48, x + 48]) == (reference[0], 220, 60 * column)

    assert len(references) == SHEET_ROWS


def test_references_with_every_strength_and_new_classes_come_first():
    rows = pd.DataFrame(
        [
            ("p", 0, 1, 0.5),
            ("q", 0, 1, 0.5),
            ("q", 0, 2, 0.9),
            ("r", 1, 0, 0.9),
            ("s", 0, 1, 0.9),
            ("s", 0, 1, 0.5),
        ],
        columns=["source_key", "source_label", "target_label", "strength"],
    )

    assert choose_translations(rows, 3) == [[5, 4], [None, 3], [1, 2]]


@pytest.mark.parametrize(
    ("size", "shown"),
    [
        ((32, 32), (96, 96)),
        ((64, 48), (128, 96)),
        ((120, 100), (120, 100)),
        ((512, 256), (160, 80)),
    ],
)
def test_fit(size, shown):
    assert fit(Image.new("RGB", size)).size == shown
