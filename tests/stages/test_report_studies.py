"""The page's sections on the images' fidelity and on attention."""

import base64
import io
import re

import pytest
from PIL import Image

from tests.support.report_workspace import make_page


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def table_after(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table after a heading, row by row."""
    after = page[page.index(f"<h2>{heading}</h2>") :]
    table = re.split(r'<table class="[a-z ]*">', after)[1].split("</table>")[0]

    lines = []
    for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL):
        cells = re.findall(r"<t[hd].*?</t[hd]>", row)
        lines.append([re.sub(r"<[^>]*>", " ", cell).strip() for cell in cells])

    return lines


def test_fidelity_by_strength():
    page = make_page()
    head, *body = table_after(page, "Fidelity")
    titles = [cell.split()[0] for cell in head[1:]]

    assert titles == ["faithfulness", "background", "background", "diversity", "Fréchet"]
    assert body == [
        ["s = 0.5", "44.4", "98.3", "6.1", "0.300", "–"],
        ["s = 0.9", "88.9", "62.5", "20.5", "0.350", "24.7"],
        ["all", "71.4", "77.7", "11.2", "0.321", "20.3"],
    ]
    assert "inception" in head[5]

    assert re.search(r"Faithfulness is 80.2 among the kept ones\s+and 12.5 among the dropped", page)
    assert "diversity of 0.301" in page


def test_faithfulness_without_a_judge_is_a_similarity():
    similarity = {
        "measure": "clip similarity",
        "all": 0.2764,
        "kept": 0.28,
        "strength": {"0.5": 0.27},
    }
    page = make_page(assess={"images": 27, "faithfulness": similarity})
    head, *body = table_after(page, "Fidelity")

    assert " ".join(head[1].split()) == "faithfulness clip similarity"
    assert body == [["s = 0.5", "0.270"], ["all", "0.276"]]
    assert "dropped ones" not in page


def test_measures_that_could_not_be_taken_have_no_column():
    diversity = {"measure": "clip", "train": 0.25}
    background = {"error": {"strength": {"0.9": 4.0, "0.5": 2.0}}}
    page = make_page(assess={"images": 3, "diversity": diversity, "background": background})
    head, *body = table_after(page, "Fidelity")

    assert [cell.split()[:2] for cell in head[1:]] == [["background", "error"]]
    assert body == [["s = 0.5", "2.0"], ["s = 0.9", "4.0"], ["all", "–"]]


def test_attention_names_what_was_measured():
    assert table_after(make_page(), "Attention")[1:] == [
        ["identifier", "81.2", "60.2", "45.6", "30.1"],
        ["metaclass", "70.1", "–", "35.0", "–"],
    ]


def test_the_attention_figure_is_scaled_to_the_page():
    pattern = r'class="panel figure"><img src="data:image/webp;base64,([^"]*)"'
    source = re.search(pattern, make_page())

    assert source
    assert Image.open(io.BytesIO(base64.b64decode(source[1]))).size == (2000, 200)


def test_attention_without_masks_is_a_figure_alone():
    page = make_page(attention={"images": 2})
    assert 'class="panel figure"' in page
    assert "AUC" not in page


def test_without_images_to_study_there_is_no_section():
    page = make_page(assess={"images": 0}, attention={"images": 0})
    assert "<h2>Fidelity" not in page
    assert "<h2>Attention" not in page
