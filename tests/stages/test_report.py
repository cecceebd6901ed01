"""The page of stages/report.py, made from a small workspace written by hand."""

import re
from pathlib import Path

import pytest

from stages.report import main
from stages.shared.figures.page import direction
from stages.shared.params import leaves
from stages.shared.schemas.report import Params
from tests.support import report_workspace
from tests.support.report_workspace import PARAMS, STRENGTHS, make_page


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_it_reads_the_parameters_that_it_shows():
    assert leaves(Params) == ["seed", "method", "data.name", "base.id", "synth.gamma", "arms"]


@pytest.mark.parametrize(
    ("method", "title"),
    [("diff-mix", "Diff-Mix"), ("da-fusion", "DA-Fusion"), ("real-guidance", "Real-guidance")],
)
def test_heading_names_the_method(method, title):
    page = make_page(params=PARAMS.replace("diff-mix", method))
    assert f"<h1>{title} on 3 bird classes</h1>" in page
    assert f"<title>{title} on 3 bird classes</title>" in page


def test_page_loads_nothing_and_runs_nothing():
    page = make_page()
    assert not re.search(r"https?:|<script|<link|<iframe|@import|url\(\s*['\"]?[^#'\"]", page)

    # eight strips, the attention, eight kept, three dropped, which are also the lowest
    sources = re.findall(r'src="([^"]*)"', page)
    assert len(sources) == 8 * 4 + 1 + 8 + 3 + 3
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

    assert direction([-3.0, -0.01]) == "worse"
    assert direction([0.0, 1.0]) == ""


def test_the_first_screen_answers_before_anything_else():
    page = make_page()
    answer = page.index("Diff-Mix raises top-1 from 71.2 to 71.2 %")
    assert answer < page.index("<h2>")
    assert "None of 1 classes loses more than 10 points beyond what chance does" in page


def test_a_class_that_loses_is_marked(monkeypatch):
    monkeypatch.setattr(report_workspace, "PER_CLASS_ROWS", [(0, 20.0, 40.0), (2, 40.0, 40.0)])
    page = make_page()
    assert '<p class="worse">1 of 2 classes loses more than 10 points: Dusk Lorrel' in page
    assert page.count('<span class="worse">▼ −20.0</span>') == 1


def test_real_arms_alone_have_no_verdict():
    params = PARAMS.replace("a<b>: {}", "")
    assert "trained on real images, compared" in make_page(params=params)


def test_soft_label_stands_by_each_strength():
    page = make_page()
    labels = ["0.71 / 0.29", "0.84 / 0.16", "0.95 / 0.05"]
    for strength, label in zip(STRENGTHS, labels, strict=True):
        assert f"s = {strength}" in page
        assert f"label {label}" in page


def test_gammas_by_strength_weigh_the_labels():
    page = make_page(params=PARAMS.replace("gamma: 0.5", "gamma: [0, 1.0, 2.0]"))
    for label in ("1.00 target", "0.70 / 0.30", "0.81 / 0.19"):
        assert f"label {label}" in page
    assert "<b>0, 1, 2</b><span>γ" in page


@pytest.mark.parametrize(
    ("data", "base", "said"),
    [
        ("cub", "data/base/toybirds/pipeline", True),
        ("toybirds", "data/base/toybirds/pipeline", False),
        ("cub", "a/base", False),
    ],
)
def test_a_base_that_knows_drawn_birds_alone_is_named_where_others_are_asked_of_it(
    data, base, said
):
    params = PARAMS.replace("name: cub", f"name: {data}").replace("a/base", base)
    assert ("has seen drawn birds alone" in make_page(params=params)) is said


def test_without_waterbird_groups_and_class_sizes():
    page = make_page(waterbird=False, shots=False)
    assert "Waterbird" not in page
    assert "medium" not in page
    assert "71.25" in page


def test_nothing_dropped():
    assert "Nothing was dropped." in make_page(dropped=0)


def test_the_filters_panels_lie_around_its_threshold():
    """Scores rise from 0.1 to 0.9 over 27 images, of which the lowest three were dropped."""
    page = make_page()
    panels = page[page.index("<h2>The filter</h2>") : page.index("<h2>Attention</h2>")]
    scores = re.findall(r"<span>(0\.\d{3})</span>", panels)

    kept = [f"{0.1 + 0.8 * row / 26:.3f}" for row in range(3, 11)]
    assert scores == [*kept, "0.162", "0.131", "0.100", "0.100", "0.131", "0.162"]


def test_the_summary_has_the_verdict_and_a_line_for_each_arm():
    make_page()
    summary = Path("metrics/summary.md").read_text()
    assert summary.startswith("## Diff-Mix on 3 bird classes\n\nDiff-Mix raises top-1")

    gains = "+2.5 [+0.5, +4.5] | 90.0 / 70.0 / 33.3 | 61.2 | 12.3 | −7.8 [−9.0, +1.0]"
    assert f"| a<b> | 71.2 | {gains} |" in summary
    assert "| baseline | 71.2 |  | 90.0 / 70.0 / 33.3 | 61.2 | 12.3 |  |" in summary


def test_small_images_are_enlarged_by_whole_factors():
    assert 'class="small" style="--width:32px;--times:3"' in make_page()


@pytest.mark.parametrize(
    ("criterion", "sought"), [("metaclass", "a bird"), ("class", "the class that it was made for")]
)
def test_names_what_the_filter_looks_for(criterion, sought):
    assert f"confidence that an image shows {sought}." in make_page(criterion=criterion)


def test_same_inputs_same_bytes():
    make_page()
    outputs = [Path("metrics/report.html"), Path("metrics/samples.png")]
    before = [output.read_bytes() for output in outputs]

    main()
    assert [output.read_bytes() for output in outputs] == before


@pytest.mark.parametrize("name", ["evaluate.json", "plots/curves.csv", "attention.png"])
def test_a_missing_file_is_named(name):
    make_page()
    Path("metrics", name).unlink()

    with pytest.raises(SystemExit, match=rf"metrics/{re.escape(name)}: there is no such file"):
        main()
