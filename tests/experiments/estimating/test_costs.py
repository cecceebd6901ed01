"""Hours, memory and disk from made-up rates, by hand."""

import pytest

from experiments.estimating.costs import Task, check_processes, lines, stores
from experiments.estimating.pictures import Loading
from experiments.tables.recipes import Changes
from stages.shared.errors import BadInput
from tests.support.made_up_rates import GIB, PLAN, RATES, plan_of, task_of

TESTS = 3 * 50 * 0.004  # three trials, 50 images: decoding takes longer than answering


def costs(task: Task, processes: int = 1) -> dict[str, tuple[float, float]]:
    return {line.stage: (line.seconds, line.shared) for line in lines(task, processes)}


def test_strengths_run_12_17_and_22_of_25_steps_twice_under_guidance():
    """Seventeen on average: 30 images x 17 x 2 forwards."""
    (line,) = [line for line in lines(task_of(PLAN), 1) if line.stage == "synthesize"]
    assert line.what == "30 images, 1,020 UNet forwards, 5 references"
    (line,) = [
        line
        for line in lines(task_of(PLAN, synth__guidance_scale=1.0), 1)
        if line.stage == "synthesize"
    ]
    assert line.what == "30 images, 510 UNet forwards, 5 references"


def test_synthesis_is_steps_decoding_png_and_references():
    seconds = 30 * (17 * 0.25 + 1.0 + 0.125) + 5 * 0.5
    assert costs(task_of(PLAN))["synthesize"] == pytest.approx((seconds, seconds))


def test_processes_share_whole_shards():
    """2,500 images are three shards of 1,000, 1,000 and 500: of two processes one makes the first and the third."""
    image, reference = 17 * 0.25 + 1.0 + 0.125, 0.5
    one, two_ = costs(task_of(plan_of([0.7] * 2500, 5)), 2)["synthesize"]
    assert one == pytest.approx(2500 * image + 15 * reference)
    assert two_ == pytest.approx(1500 * image + 10 * reference)


def test_fine_tuning_shares_rows_of_a_batch_but_not_encoding():
    """Three processes have 3, 3 and 2 of 8 rows."""
    assert costs(task_of(PLAN), 3)["finetune"] == pytest.approx(
        (35000 * 0.8 + 200 * 0.05, 35000 * 0.3 + 200 * 0.05)
    )


def test_more_processes_than_rows_of_a_batch_are_refused():
    setting = task_of(PLAN).setting
    check_processes(setting, 8)
    with pytest.raises(BadInput, match=r"--processes: 9 cannot share finetune\.batch, which is 8"):
        check_processes(setting, 9)


def test_a_method_without_fine_tuning_has_no_such_stage():
    rates = RATES._replace(learn=None, learn_encode=None)
    assert "finetune" not in costs(task_of(PLAN, rates, method="real-mix"))


def test_the_filter_shares_batches_and_assess_does_not():
    """70 images are batches of 32, 32 and 6; assess looks at the 100 real ones, too."""
    found = costs(task_of(plan_of([0.7] * 70, 5)), 2)
    assert found["filter"] == pytest.approx((70 * 0.02, 38 * 0.02))
    assert found["assess"] == pytest.approx((170 * 0.02, 170 * 0.02))


def test_without_clip_nothing_is_said_of_its_stages():
    task = task_of(PLAN, RATES._replace(clip=None, clip_missing="no such folder"))
    assert not costs(task).keys() & {"filter", "assess"}


def test_adjacent_pairing_looks_at_the_training_images():
    task = task_of(PLAN, synth__pairing="adjacent", synth__referable_classes=2)
    assert costs(task)["plan"] == pytest.approx((100 * 0.02, 100 * 0.02))
    assert "plan" not in costs(task_of(PLAN))


def test_attention_draws_its_own_few():
    """The first and the sixteenth of 30: strengths 0.5 and 0.5, one reference."""
    seconds = 2 * (12 * 0.25 + 1.0 + 0.125) + 0.5
    assert costs(task_of(PLAN))["attention"] == pytest.approx((seconds, seconds))


def test_training_takes_the_longer_of_computing_and_loading():
    """Real images: 100 x 0.01 s of computing; half synthetic: 100 x (0.002 + 0.015) s of loading; 2 s to start."""
    found = costs(task_of(PLAN))
    assert found["train_real@baseline"][0] == pytest.approx(3 * 10 * (100 * 0.01 + 2) + TESTS)
    assert found["train@diffmix"][0] == pytest.approx(3 * 10 * (100 * 0.017 + 2) + TESTS)


def test_without_workers_loading_and_computing_add_up():
    alone = RATES._replace(real=Loading(0.004, 0.0, 0), synthetic=Loading(0.03, 0.0, 0))
    seconds = 3 * 10 * 100 * (0.01 + 0.004) + 3 * 50 * (0.002 + 0.004)
    assert costs(task_of(PLAN, alone))["train_real@baseline"][0] == pytest.approx(seconds)


def test_pictures_that_are_kept_are_decoded_once_by_every_process():
    """100 real images and 50 to test on, and of 30 synthetic ones the 27 that the filter leaves."""
    once = RATES._replace(
        real=RATES.real._replace(once=0.5), synthetic=RATES.synthetic._replace(once=2.0)
    )
    for processes in (1, 2):
        before, after = (costs(task_of(PLAN, rates), processes) for rates in (RATES, once))
        added = [
            after[stage][1] - before[stage][1] for stage in ("train_real@baseline", "train@diffmix")
        ]
        assert added == pytest.approx([150 * 0.5, 150 * 0.5 + 27 * 2.0])


def test_trials_are_shared_and_tests_are_not():
    assert costs(task_of(PLAN), 2)["train_real@baseline"][1] == pytest.approx(
        2 * 10 * (100 * 0.01 + 2) + TESTS
    )
    assert costs(task_of(PLAN), 8)["train_real@baseline"][1] == pytest.approx(
        10 * (100 * 0.01 + 2) + TESTS
    )


def test_workers_of_several_trials_share_the_cores():
    """Three times 4 workers on 8 cores load 1.5 times slower."""
    slow = RATES._replace(real=Loading(0.04, 2.0, 4))
    tests = 3 * 50 * 0.04
    assert costs(task_of(PLAN, slow), 2)["train_real@baseline"][1] == pytest.approx(
        2 * 10 * (100 * 0.04 + 2) + tests
    )
    assert costs(task_of(PLAN, slow), 3)["train_real@baseline"][1] == pytest.approx(
        10 * (100 * 0.06 + 2) + tests
    )


def arm(group: str, **values) -> Changes:
    plain = {"mix": "none", "mix_probability": 0.0, "reweight": "none"}
    extra = {"p": 0.5, "labels": "eq3"} if group == "synthetic" else {}
    return {f"arms__{group}__own": plain | extra | values}


def test_a_teacher_trains_as_long_on_real_images_and_labels_what_the_filter_keeps():
    """27 of 30 images are kept."""
    trial = 10 * (100 * 0.017 + 2) + 10 * (100 * 0.01 + 2) + 27 * 0.03
    task = task_of(PLAN, **arm("synthetic", labels="baseline"))
    assert costs(task)["train@own"][0] == pytest.approx(3 * trial + TESTS)


def test_labels_of_clip_take_a_look_at_all_images_that_processes_share():
    (eq3, _), own = costs(task_of(PLAN))["train@diffmix"], arm("synthetic", labels="clip")
    one, three = costs(task_of(PLAN, **own), 3)["train@own"]
    assert one == pytest.approx(eq3 + (100 + 27) * 0.02)
    assert three == pytest.approx(
        costs(task_of(PLAN), 3)["train@diffmix"][1] + (100 + 27) * 0.02 / 3
    )


def test_cmo_loads_patches_except_in_its_first_and_last_epochs():
    """Ten epochs, of which the first four and the last three rest; a patch for every second batch of the others."""
    slow = RATES._replace(real=Loading(0.04, 2.0, 4))
    found = costs(task_of(PLAN, slow, **arm("real", mix="cmo", mix_probability=0.5)))
    assert found["train_real@own"][0] == pytest.approx(
        3 * (10 * (100 * 0.04 + 2) + 3 * 50 * 0.04) + 3 * 50 * 0.04
    )


def test_a_stages_memory_is_that_of_its_largest_part():
    found = {line.stage: line.memory for line in lines(task_of(PLAN), 1)}
    assert (found["finetune"], found["synthesize"], found["train_real@baseline"]) == (
        7 * GIB,
        5 * GIB,
        3 * GIB,
    )


def test_disk_holds_images_weights_and_a_copy():
    """Four arms of three trials; a checkpoint holds weights and momentum."""
    found = {store.path: store.size for store in stores(task_of(PLAN))}
    kept_ = {
        "data/download": 2_000_000,
        "data/finetune": 20_000_000,
        "data/synthesize": 30 * 400_000,
    }
    kept_ |= {"data/train": 12 * 100_000_000}
    assert found == kept_ | {
        "archives": 1_000_000,
        "DVC's cache": sum(kept_.values()),
        ".work": 600_000_000,
    }
