"""synthesize agrees with diffusers' own pipelines, and its batches, shards and checks do what they say."""

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline

from stages.shared.diffusion import Base, load_base
from stages.shared.tables import place_rows, write_manifest
from stages.synthesize import Synth, buckets, encode_prompts, make_shard, read_plan, synthesize
from tests.conftest import PIPELINE

SYNTH = Synth(steps=10, guidance_scale=2.5, resolution=32)
PROMPTS = ["a photo of a bird on water", "a photo of a bird with red crown", "a photo of land"]


class Bar:
    def update(self, count: int) -> None:
        pass


@pytest.fixture(scope="module")
def pipeline():
    return load_base(Base(id=PIPELINE, revision=None), torch.float32)


def plan_of(sources: list[str], strengths: list[float]) -> pd.DataFrame:
    count = len(sources)
    return pd.DataFrame(
        {
            "key": [f"{row:08d}" for row in range(count)],
            "source_key": sources,
            "source_label": 0,
            "target_label": [row % 3 for row in range(count)],
            "strength": strengths,
            "seed": [100 + row for row in range(count)],
        }
    )


def decode(images: list[bytes]) -> np.ndarray:
    import io

    from PIL import Image

    return np.stack([np.asarray(Image.open(io.BytesIO(image)), int) for image in images])


def test_translation_agrees_with_the_stock_img2img_pipeline(pipeline, table):
    plan = plan_of(["00000000", "00000003", "00000005"], [0.5, 0.7, 0.9])
    ours = decode(synthesize(pipeline, table, encode_prompts(pipeline, PROMPTS), plan, SYNTH, Bar()))
    stock = StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    stock.set_progress_bar_config(disable=True)
    for row, made in zip(plan.itertuples(), ours, strict=True):
        image = stock(
            PROMPTS[row.target_label], table.image(int(row.source_key)), strength=row.strength,
            num_inference_steps=SYNTH.steps, guidance_scale=SYNTH.guidance_scale,
            generator=torch.Generator().manual_seed(row.seed),
        ).images[0]  # fmt: skip
        assert np.abs(made - np.asarray(image, int)).max() <= 1


def test_generation_agrees_with_the_stock_text_to_image_pipeline(pipeline, table):
    plan = plan_of(["", "", ""], [1.0, 1.0, 1.0])
    ours = decode(synthesize(pipeline, table, encode_prompts(pipeline, PROMPTS), plan, SYNTH, Bar()))
    for row, made in zip(plan.itertuples(), ours, strict=True):
        image = pipeline(
            PROMPTS[row.target_label], height=32, width=32, num_inference_steps=SYNTH.steps,
            guidance_scale=SYNTH.guidance_scale, generator=torch.Generator().manual_seed(row.seed),
        ).images[0]  # fmt: skip
        assert np.abs(made - np.asarray(image, int)).max() <= 1


def test_a_strength_below_one_step_still_takes_one(pipeline, table):
    plan = plan_of(["00000000"], [0.01])
    images = synthesize(pipeline, table, encode_prompts(pipeline, PROMPTS), plan, SYNTH, Bar())
    assert decode(images).shape == (1, 32, 32, 3)


def test_batches_hold_one_strength_and_lose_no_row():
    plan = plan_of([""] * 7, [0.5, 0.9, 0.5, 0.9, 0.5, 0.5, 0.7])
    batches = list(buckets(plan, 3))
    assert [sorted(set(batch["strength"])) for batch in batches] == [[0.5], [0.5], [0.7], [0.9]]
    assert sorted(key for batch in batches for key in batch["key"]) == list(plan["key"])


def test_a_finished_shard_is_not_made_again(tmp_path):
    (tmp_path / "result").mkdir()
    calls = []

    def make(rows):
        calls.append(len(rows))
        return [b"x"] * len(rows)

    rows = plan_of(["", ""], [1.0, 1.0])
    first = make_shard(tmp_path, "shard-00000.tar", rows, make)
    second = make_shard(tmp_path, "shard-00000.tar", rows, make)
    assert calls == [2]
    pd.testing.assert_frame_equal(first, second)
    (tmp_path / "result/shard-00000.tar").unlink()  # published by a run that was killed before it could clear up
    make_shard(tmp_path, "shard-00000.tar", rows, make)
    assert calls == [2, 2]


def test_a_plan_that_names_an_unknown_image_is_refused(tmp_path):
    sources = place_rows(pd.DataFrame({"key": ["a"], "label": [0]}), "shard-00000.tar", [(512, 1)])
    write_manifest(tmp_path, plan_of(["a", "zz"], [0.5, 0.5]), "plan.csv")
    with pytest.raises(SystemExit, match=r"plan.csv: source_key 'zz' is not in"):
        read_plan(tmp_path / "plan.csv", sources)
