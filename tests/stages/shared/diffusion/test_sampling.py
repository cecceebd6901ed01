"""Steps, guided steps and forward passes by hand; strengths that would be one are refused."""

import pytest
from diffusers import EulerDiscreteScheduler
from diffusers.guiders import ClassifierFreeGuidance

from stages.shared.diffusion.sampling import (
    Sampling,
    check_steps,
    forward_passes,
    guided_steps,
    steps_taken,
    trailing_steps,
)
from tests.support.sampling import PLAIN

SAMPLING = Sampling(**PLAIN, steps=25, guidance_scale=7.5, resolution=512, batch=8)
LCM = SAMPLING.model_copy(update={"sampler": "lcm", "steps": 4})


def test_a_strength_takes_its_share_of_the_steps_and_lcm_all():
    assert [steps_taken(SAMPLING, strength) for strength in (0.5, 0.7, 0.9, 1.0)] == [
        12,
        17,
        22,
        25,
    ]
    assert [steps_taken(LCM, strength) for strength in (0.5, 0.7, 0.9, 1.0)] == [4, 4, 4, 4]


@pytest.mark.parametrize(
    ("scale", "stop", "passes"), [(7.5, 1.0, 34), (7.5, 0.5, 25), (1.0, 1.0, 17)]
)
def test_a_guided_step_is_two_forward_passes(scale, stop, passes):
    """Of 17 steps all, the first 8, or none are guided."""
    sampling = SAMPLING.model_copy(update={"guidance_scale": scale, "guidance_stop": stop})
    assert forward_passes(sampling, 0.7) == passes


@pytest.mark.parametrize("stop", [0.1, 0.29, 0.5, 0.7, 0.75, 1.0])
def test_guidance_stops_where_diffusers_guider_stops_it(stop):
    sampling = SAMPLING.model_copy(update={"guidance_stop": stop})
    guider = ClassifierFreeGuidance(guidance_scale=7.5, stop=stop)

    for taken in (1, 2, 7, 10, 17, 22, 100):
        guided = 0
        for step in range(taken):
            guider.set_state(step, taken, timestep=None)
            guided += guider.num_conditions == 2
        assert guided_steps(sampling, taken) == guided


def test_four_steps_of_lcm_keep_the_papers_strengths_apart():
    check_steps([0.5, 0.7, 0.9], LCM)
    with pytest.raises(SystemExit, match=r"of 4 steps, strengths 0.5 and 0.7 would both run 2"):
        check_steps([0.5, 0.7, 0.9], SAMPLING.model_copy(update={"steps": 4}))


def test_lcm_cannot_take_more_steps_than_lie_below_a_strength():
    """Five of fifty below 0.1, where four are asked for; four below 0.08, and three below 0.06."""
    check_steps([0.1, 0.5], LCM)
    check_steps([0.08, 0.5], LCM)
    with pytest.raises(SystemExit, match=r"synth.steps: sampler lcm has 3 of its 50 steps below"):
        check_steps([0.06, 0.5], LCM)


def test_lcm_keeps_strengths_apart_that_have_a_step_between_them():
    """0.7 and 0.72 are 35 and 36 fiftieths; 0.71 is 35, too."""
    check_steps([0.7, 0.72], LCM)
    with pytest.raises(SystemExit, match=r"synth.strength: sampler lcm would start 0.7 and 0.71"):
        check_steps([0.7, 0.71], LCM)


def test_guidance_that_would_guide_no_step_is_refused():
    """A fifth of four steps is none, rounded down."""
    sampling = LCM.model_copy(update={"guidance_stop": 0.2})
    with pytest.raises(SystemExit, match=r"synth.guidance_stop: of the 4 steps at strength 0.7"):
        check_steps([0.7], sampling)

    check_steps([0.7], LCM.model_copy(update={"guidance_stop": 0.25}))


def test_a_number_of_steps_that_diffusers_rounds_up_is_refused():
    """EulerDiscreteScheduler gives 62 times for 61 steps, the last of them -1."""
    scheduler = EulerDiscreteScheduler(timestep_spacing="trailing")
    for steps in (5, 25, 61, 103, 499):
        scheduler.set_timesteps(steps)
        assert trailing_steps(steps) == len(scheduler.timesteps)

    euler = SAMPLING.model_copy(update={"sampler": "euler", "steps": 61})
    with pytest.raises(SystemExit, match=r"synth.steps: euler would take 62 steps for 61"):
        check_steps([0.5, 0.9], euler)
