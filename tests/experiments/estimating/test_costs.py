"""Hours, price and disk from made-up rates: the numbers are computed by hand."""

from typing import Any

import pytest

from experiments.estimating.costs import Task, lines, price_run, stores
from tests.support.made_up_rates import PLAN, RATES, plan_of, rate, task_of

# three trials answer 50 images, at a third of a training step's 0.012 s
TESTS = 3 * 50 * 0.004
TRIAL = 10 * 100 * 0.012  # ten epochs of 100 images


def seconds(task: Task) -> dict[str, float]:
    return {line.stage: line.seconds for line in lines(task)}


def shared(task: Task) -> dict[str, float]:
    return {line.stage: line.shared for line in lines(task)}


def does(task: Task, stage: str) -> str:
    return next(line.does for line in lines(task) if line.stage == stage)


def own_arm(group: str, **values: Any) -> dict[str, Any]:
    """Changes that add an arm called own."""
    plain = {"mix": "none", "mix_probability": 0.0, "reweight": "none"}
    return {f"arms__{group}__own": plain | {"p": 0.5} | values}


def test_all_stages_are_there_in_order_and_summed():
    """The four arms are those of Toybirds."""
    found = seconds(task_of())
    total = found.pop("all")

    assert list(found) == [
        "finetune", "synthesize", "filter", "assess", "attention",
        "train_real@baseline", "train_real@cutmix", "train@diffmix", "train@diffmix-cutmix",
    ]  # fmt: skip
    assert total == pytest.approx(sum(found.values()))


def test_fine_tuning_encodes_mirror_images_too():
    """35,000 steps of 8 images, and twice 100 images encoded by every process.

    Of three processes, two have 3 of the 8 rows.
    """
    assert seconds(task_of())["finetune"] == pytest.approx(35000 * 8 * 0.1 + 200 * 0.5)
    assert shared(task_of(processes=3))["finetune"] == pytest.approx(35000 * 3 * 0.1 + 200 * 0.5)


def test_nothing_is_fine_tuned_without_a_rate():
    assert "finetune" not in seconds(task_of(rates=RATES._replace(finetune_step=None)))


def test_strengths_run_12_17_and_22_of_25_steps_twice_under_guidance():
    """Seventeen on average: 30 images x 17 x 2 forwards; and five references."""
    task = task_of()

    assert does(task, "synthesize") == "30 images, 1,020 UNet forwards"
    assert "510 UNet" in does(task_of(synth__guidance_scale=1.0), "synthesize")
    assert seconds(task)["synthesize"] == pytest.approx(30 * (17 * 0.25 + 1.125) + 5 * 0.5)


def test_steps_after_guidance_has_stopped_cost_half():
    """Of 12, 17 and 22 steps 6, 8 and 11 are guided: 18, 25 and 33 forwards, ten images each."""
    task = task_of(synth__guidance_stop=0.5)

    assert does(task, "synthesize") == "30 images, 760 UNet forwards"
    assert seconds(task)["synthesize"] == pytest.approx(760 / 2 * 0.25 + 30 * 1.125 + 5 * 0.5)


def test_lcm_takes_all_steps_at_every_strength():
    task = task_of(synth__sampler="lcm", synth__steps=4, synth__guidance_scale=1.0)
    assert does(task, "synthesize") == "30 images, 120 UNet forwards"


def test_images_from_noise_encode_no_reference_and_show_no_attention():
    found = seconds(task_of(PLAN.assign(source_key="")))
    assert found["synthesize"] == pytest.approx(30 * (17 * 0.25 + 1.125))
    assert found["attention"] == 0


def test_processes_share_images_and_each_encodes_the_references_of_its_own():
    image = 17 * 0.25 + 1.125
    task = task_of(plan_of([0.7] * 2500, 5), processes=2)

    assert seconds(task)["synthesize"] == pytest.approx(2500 * image + 5 * 0.5)
    assert shared(task)["synthesize"] == pytest.approx(1250 * image + 5 * 0.5)

    many = task_of(plan_of([0.7] * 8, 8), processes=4)
    assert shared(many)["synthesize"] == pytest.approx(2 * image + 2 * 0.5)


def test_the_cores_of_a_cpu_share_images_halves_of_a_batch_and_trials():
    one = seconds(task_of())
    four = seconds(task_of(cores=4))

    assert four["synthesize"] == pytest.approx(one["synthesize"] / 4)
    assert four["finetune"] == pytest.approx(35000 * 4 * 0.1 + 200 * 0.5)
    assert four["train@diffmix"] == pytest.approx(TRIAL + TESTS / 3)
    assert four["attention"] == one["attention"]


def test_the_filter_is_shared_and_assess_is_not():
    """Assess looks at the 100 real images, too."""
    task = task_of(plan_of([0.7] * 70, 5), processes=2)
    assert (seconds(task)["filter"], shared(task)["filter"]) == pytest.approx((1.4, 0.7))
    assert (seconds(task)["assess"], shared(task)["assess"]) == pytest.approx((3.4, 3.4))


def test_adjacent_pairing_looks_at_the_training_images():
    task = task_of(synth__pairing="adjacent", synth__referable_classes=2)
    assert seconds(task)["plan"] == pytest.approx(100 * 0.02)
    assert "plan" not in seconds(task_of())


def test_attention_draws_its_own_few():
    """The first and the sixteenth of 30: strengths 0.5 and 0.5, one reference."""
    assert seconds(task_of())["attention"] == pytest.approx(2 * (12 * 0.25 + 1.125) + 0.5)


def test_trials_are_shared_and_tests_are_not():
    for processes, rounds in ((1, 3), (2, 2), (3, 1)):
        found = shared(task_of(processes=processes))
        assert found["train_real@baseline"] == pytest.approx(rounds * TRIAL + TESTS)
        assert found["train@diffmix"] == found["train_real@baseline"]


def test_more_processes_than_trials_share_batches_and_tests():
    found = shared(task_of(processes=8))
    assert found["train_real@baseline"] == pytest.approx((3 * TRIAL + TESTS) / 8)


def test_the_slower_of_loading_and_computing_counts():
    found = seconds(task_of(rates=RATES._replace(loading=rate(0.04))))
    assert found["train_real@cutmix"] == pytest.approx(3 * 10 * 100 * 0.04 + 3 * 50 * 0.04)


def test_a_teacher_trains_as_long_and_labels_what_the_filter_keeps():
    """27 of 30 images are kept."""
    task = task_of(**own_arm("synthetic", labels="baseline"))
    assert seconds(task)["train@own"] == pytest.approx(3 * (2 * TRIAL + 27 * 0.004) + TESTS)


def test_labels_of_clip_take_a_look_at_all_images_that_processes_share():
    looks = (100 + 27) * 0.02
    task = task_of(processes=3, **own_arm("synthetic", labels="clip"))
    assert seconds(task)["train@own"] == pytest.approx(3 * TRIAL + TESTS + looks)
    assert shared(task)["train@own"] == pytest.approx(TRIAL + TESTS + looks / 3)


def test_a_run_costs_its_hours_on_one_gpu():
    """28,100 s of fine-tuning, 175.7 s up to the four arms, and 36.6 s each: 28,422.1 s.

    At 36 an hour, a hundred seconds cost one.
    """
    price = price_run(task_of(), 36.0)
    assert price == pytest.approx((36.0, 284.221, 284.221))


def test_every_gpu_of_a_machine_is_paid_for_until_the_run_ends():
    """Of three processes: 10,600 s, 56.25 + 0.2 + 2.6 + 8.75 s and four arms of 12.6 s."""
    price = price_run(task_of(processes=3), 36.0)
    assert price == pytest.approx((36.0, 284.221, 3 * 107.182))


def test_disk_holds_images_weights_and_a_copy():
    """Four arms of three trials; a checkpoint holds weights and momentum; 1.7 bytes a pixel."""
    found = stores(task_of(synth__resolution=100))
    data = [2_000_000, 30 * 17_000, 12 * 100_000_000]
    others = [sum(data), 1_000_000, 600_000_000]

    assert list(found.values()) == [*data, *others, sum(data + others)]
