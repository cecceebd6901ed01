"""`make estimate`: what it says and refuses, and real calibrations of tiny models."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import estimate
from experiments.estimating import calibration
from experiments.estimating.page import SIZES, TIMES, content, show, show_costs, show_table
from experiments.tables.recipes import Changes
from stages.shared.diffusion import translation
from stages.shared.errors import BadInput
from stages.shared.running import forks
from tests.support.closure import ROOT
from tests.support.made_up_rates import HERE, RATES, changed, rate, task_of
from tests.support.tiny_models import save_tiny


def test_the_page_shows_rates_hours_and_disk():
    said = show_costs(content(task_of()))
    lines = [" ".join(line.split()) for line in said.splitlines()]

    assert lines[0] == "An image, on a machine:"
    assert "| a part | 250 ms | 8 | 8 | 2 GB |" in lines
    assert "| finetune | 35,000 steps of 8 images | 7.8 h |" in lines
    assert "| all | | 7.9 h |" in lines
    assert "| data/train | 1,200 MB |" in lines


def test_the_papers_images_an_hour_stand_beside_ours():
    """30 images in 163.75 s are 660 an hour."""
    found = content(task_of())

    assert found["images_per_hour"] == {"here": 660, "paper": 4179}
    assert "makes 660 images an hour here" in show_costs(found)
    assert "an RTX 3090, makes 4,179 of 512 pixels" in show_costs(found)


def test_hours_of_several_processes_have_a_column_of_their_own():
    """Of three, two have 3 of a batch's 8 rows: 35,000 x 3 x 0.1 s, and 100 s of encoding."""
    found = content(task_of(processes=3))

    assert found["stages"][0]["shared"] == pytest.approx(10600)
    assert "| 7.8 h   | 2.9 h " in show_costs(found)
    assert "several processes" not in show_costs(content(task_of()))


def test_a_batch_that_does_not_fit_is_said():
    halved = rate(1.0, measured=4)._replace(part="synth.batch: decoding")
    (said,) = set(warnings_of(RATES._replace(decoding=halved))) - set(warnings_of(RATES))

    assert said == (
        "synth.batch: decoding: 8 images at once do not fit into the GPU's memory, 4 do; "
        "lower it, or take a larger GPU."
    )


def warnings_of(rates) -> list[str]:
    return content(task_of(rates=rates))["warnings"]


def test_a_cpu_gives_an_order_of_magnitude_and_no_memory():
    on_cpu = rate(0.02, memory=None, measured=1)
    (said,) = set(warnings_of(RATES._replace(clip=on_cpu))) - set(warnings_of(RATES))

    assert "order of magnitude" in said
    page = show_costs(content(task_of(rates=RATES._replace(clip=on_cpu))))
    assert "not measured: needs a GPU" in page


def test_the_price_is_said_where_a_gpu_has_one():
    """7.8950 h at 2.5 are 19.7; three GPUs for 2.9773 h are 22.3."""
    found = content(task_of(gpu_price=2.5))
    assert found["price"] == pytest.approx({"gpu_hour": 2.5, "alone": 19.73757, "shared": 19.73757})
    assert "At a price of 2.5 an hour and GPU, all stages cost 20 on one GPU.\n" in show_costs(
        found
    )

    said = show_costs(content(task_of(processes=3, gpu_price=2.5)))
    assert "cost 20 on one GPU, and 22 on 3, each of which is paid for until" in said


def test_nothing_is_said_of_a_price_that_is_not_set():
    found = content(task_of())
    assert "price" not in found
    assert "price" not in show_costs(found)


def test_a_price_by_a_cpus_hours_is_said_to_be_too_high():
    rates = RATES._replace(clip=rate(0.02, memory=None))
    (said,) = set(content(task_of(rates=rates, gpu_price=2.5))["warnings"]) - set(
        warnings_of(rates)
    )

    assert said.startswith("The price takes this CPU's hours for a GPU's")


@pytest.mark.parametrize("text", ["", "two", "0", "-1", "nan", "inf"])
def test_a_price_that_is_no_positive_number_is_refused(text, monkeypatch):
    monkeypatch.setenv("GPU_PRICE", text)
    with pytest.raises(BadInput, match=rf"^GPU_PRICE: '{text}' is no positive number; give"):
        estimate.estimate(HERE, changed(SMALL), 1, None)


@pytest.mark.parametrize(
    ("number", "units", "text"),
    [
        (0.0123, TIMES, "12 ms"), (4.26, TIMES, "4.3 s"), (89, TIMES, "89 s"),
        (91, TIMES, "1.5 min"), (5300, TIMES, "88 min"), (5400, TIMES, "1.5 h"),
        (1234567, TIMES, "340 h"), (7e9, SIZES, "7 GB"), (5.51e7, SIZES, "55 MB"),
    ],
)  # fmt: skip
def test_numbers_have_two_digits_and_a_unit(number, units, text):
    assert show(number, units) == text


def test_columns_stand_below_each_other():
    said = show_table([{"a": "wide", "size": 2e9}])
    assert said == "| a    | size |\n| ---- | ---- |\n| wide | 2 GB |"


SMALL: Changes = {
    "data.toybirds.train_per_class": 2, "subset.mode": "full", "finetune.batch": 2,
    "synth.batch": 2, "train.batch": 4, "synth.multiplier": 1, "train.trials": 2,
}  # fmt: skip
IMAGES = {"classes": 12, "train": 24, "test": 3600, "ood": 2400, "synthetic": 24}


@pytest.mark.parametrize("family", ["sd", "sdxl"])
def test_a_real_base_is_calibrated(family, tmp_path, capsys, monkeypatch):
    base = save_tiny(tmp_path / "base", family)
    tree = changed(SMALL | {"base.id": str(base), "base.revision": None})
    predict = translation.predict
    rows: set[int] = set()

    def recorded(pipeline, latents, times, text):
        rows.add(len(latents))
        return predict(pipeline, latents, times, text)

    monkeypatch.setattr(translation, "predict", recorded)
    monkeypatch.setattr(forks, "cores", lambda: 1)  # which two processes are faster than
    monkeypatch.setenv("GPU_PRICE", "3600")  # of which a second costs one
    estimate.estimate(HERE, tree, 2, tmp_path / "found.json")

    found = json.loads((tmp_path / "found.json").read_text())

    assert found["images"] == IMAGES
    assert len(found["stages"]) == 10
    assert all(stage["seconds"] >= stage["shared"] > 0 for stage in found["stages"])
    assert found["price"]["alone"] == pytest.approx(found["stages"][-1]["seconds"])
    assert [part["batch"] for part in found["rates"]] == [32, 2, 2, 2, 2, 4, 4]
    assert rows == {2, 4}, "under guidance an image, and a batch of two, are predicted twice"
    assert "| finetune " in capsys.readouterr().out


def test_a_method_that_learns_nothing_is_calibrated(tmp_path):
    base = str(save_tiny(tmp_path / "base"))
    tree = changed(SMALL | {"base.id": base, "base.revision": None, "method": "real-gen"})
    estimate.estimate(HERE, tree, 9, tmp_path / "found.json")
    found = json.loads((tmp_path / "found.json").read_text())

    assert found["stages"][0]["stage"] == "synthesize"


def test_a_base_that_cannot_be_loaded_is_said_after_the_counts(tmp_path, capsys):
    (tmp_path / "base").mkdir()
    (tmp_path / "base/model_index.json").write_text('{"_class_name": "FluxPipeline"}')
    tree = changed(SMALL | {"base.id": str(tmp_path / "base")})

    with pytest.raises(BadInput, match="is a FluxPipeline; take one of StableDiffusionPipeline"):
        estimate.estimate(HERE, tree, 1, None)
    assert "to be made:   24: " in capsys.readouterr().out


def test_a_missing_clip_is_said_before_anything_is_timed(tmp_path, monkeypatch):
    monkeypatch.setattr(calibration, "load_base", None)
    tree = changed(SMALL | {"clip.id": str(tmp_path), "clip.revision": None})
    with pytest.raises(BadInput, match=r"clip\.id"):
        estimate.estimate(HERE, tree, 1, None)


def test_more_processes_than_rows_of_a_batch_are_refused():
    with pytest.raises(BadInput, match=r"--processes: 3 cannot share finetune\.batch, which is 2"):
        estimate.estimate(HERE, changed(SMALL), 3, None)


def test_another_base_is_a_folder_without_revision(tmp_path):
    base = save_tiny(tmp_path / "base")
    path, tree = estimate.read_tree("photos", str(base))
    assert path == Path("presets/photos.yaml")
    assert tree["base"] == {"id": str(base), "revision": None}
    assert tree["data"]["metaclass"] == "object", "the hours of a noun that is not set yet"


def test_a_wrong_parameter_is_found_in_the_file_that_was_read(monkeypatch):
    monkeypatch.setattr(estimate, "read_preset", lambda _name: changed({"train.epochs": 0}))
    with pytest.raises(BadInput, match=r"^presets/toybirds\.yaml: train\.epochs: "):
        estimate.read_tree("toybirds", None)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--preset", "moon"], r"PRESET: there is no presets/moon.yaml; take one of .*toybirds"),
        (["--preset", "toybirds", "--base", "nowhere"], "--base: there is no folder nowhere"),
        (["--processes", "0"], "--processes: 0 is not at least 1"),
        (["--json", "nowhere/a.json"], "--json: nowhere/a.json is no file in a folder that exists"),
    ],
)
def test_bad_arguments_are_refused(words, line, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["estimate", *words])
    with pytest.raises(BadInput, match=line):
        estimate.main()


def test_a_refusal_waits_for_no_library():
    words = [sys.executable, "-X", "importtime", "-m", "experiments.estimate", "--preset", "moon"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)

    assert done.returncode == 1
    assert "experiments.estimating.counts" in done.stderr
    assert "|torch" not in done.stderr.replace(" ", "")
