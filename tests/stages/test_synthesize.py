"""synthesize agrees with diffusers' own pipelines.

Its batches, shards, backgrounds and checks do as they say.
"""

import io
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from PIL import Image

from stages import synthesize as stage
from stages.shared.diffusion.attention_maps import foreground_masks, prompt_weights
from stages.shared.diffusion.base_model import load_base
from stages.shared.diffusion.text import encode_prompts
from stages.shared.diffusion.translation import References, buckets, load_translator, read_plan
from stages.shared.files import write_csv
from stages.shared.pretrained.reference import Pretrained
from stages.shared.running import forks
from stages.shared.running.shards import Shards
from stages.shared.running.store import Store
from stages.shared.schemas.synthesize import Params, Synth, check_mode
from stages.shared.tables import Table, locate_rows
from stages.synthesize import keep_background, synthesize
from tests.conftest import PIPELINE
from tests.support.sampling import PLAIN

SYNTH = Synth(**PLAIN, steps=10, guidance_scale=2.5, resolution=32, batch=4, keep_background=False)
PAIRS = SYNTH.model_copy(update={"batch": 2})
PROMPTS = ["a photo of a bird on water", "a photo of a bird with red crown", "a photo of land"]


@pytest.fixture(scope="module")
def pipeline():
    return load_base(Pretrained(id=PIPELINE, revision=None), torch.float32)


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


def decode(image: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(image)), int)


def make_all(pipeline, table, text, words, plan: pd.DataFrame, synth: Synth) -> np.ndarray:
    """The plan's images in the order of its rows, int (n, side, side, 3)."""
    references = References(pipeline, table, synth)
    batches = list(buckets(plan, synth.batch))
    encoded: dict[str, bytes] = {}
    for batch in synthesize(pipeline, references, text, words, synth, batches):
        encoded |= batch

    return np.stack([decode(encoded[key]) for key in plan["key"]])


def test_translation_agrees_with_the_stock_img2img_pipeline(pipeline, table):
    plan = plan_of(["00000000", "00000003", "00000005"], [0.5, 0.7, 0.9])
    text = encode_prompts(pipeline, PROMPTS)
    ours = make_all(pipeline, table, text, None, plan, SYNTH)

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
    text = encode_prompts(pipeline, PROMPTS)
    ours = make_all(pipeline, table, text, None, plan, SYNTH)

    for row, made in zip(plan.itertuples(), ours, strict=True):
        image = pipeline(
            PROMPTS[row.target_label], height=32, width=32, num_inference_steps=SYNTH.steps,
            guidance_scale=SYNTH.guidance_scale, generator=torch.Generator().manual_seed(row.seed),
        ).images[0]  # fmt: skip
        assert np.abs(made - np.asarray(image, int)).max() <= 1


def test_a_strength_below_one_step_still_takes_one(pipeline, table):
    plan = plan_of(["00000000"], [0.01])
    text = encode_prompts(pipeline, PROMPTS)
    assert make_all(pipeline, table, text, None, plan, SYNTH).shape == (1, 32, 32, 3)


def test_batches_hold_one_strength_and_lose_no_row():
    plan = plan_of([""] * 7, [0.5, 0.9, 0.5, 0.9, 0.5, 0.5, 0.7])
    batches = list(buckets(plan, 3))

    assert [sorted(set(batch["strength"])) for batch in batches] == [[0.5], [0.5], [0.7], [0.9]]
    assert sorted(key for batch in batches for key in batch["key"]) == list(plan["key"])


def test_every_batch_is_yielded_once(pipeline, table):
    """Three batches, also of rows that are not in the order of the batches."""
    plan = plan_of([""] * 5, [0.9, 0.5, 0.9, 0.5, 0.9])
    synth = SYNTH.model_copy(update={"batch": 2})
    text = encode_prompts(pipeline, PROMPTS)

    references = References(pipeline, table, synth)
    made = synthesize(pipeline, references, text, None, synth, list(buckets(plan, 2)))
    batches = [list(batch) for batch in made]

    assert batches == [["00000001", "00000003"], ["00000000", "00000002"], ["00000004"]]


@pytest.fixture
def open_shards(tmp_path, monkeypatch):
    """Opens the shards of a plan, in a folder where no fine-tuned model lies, with an own store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)

    def open_plan(plan: pd.DataFrame, work: str, stored: str = "0") -> Shards:
        monkeypatch.setenv("DIFFMIX_STORE", stored)
        (tmp_path / work).mkdir(exist_ok=True)
        rows = plan.assign(label=plan["target_label"])
        name = partial(stage.stored_name, "common", plan)
        return Shards(tmp_path / work, rows, Store("synthesize"), name)

    return open_plan


def make_lacking(shards: Shards, plan, table, classes, synth: Synth = SYNTH) -> pd.DataFrame:
    """Make what the shards lack; returns their manifest."""
    params = Params(base=Pretrained(id=PIPELINE, revision=None), synth=synth)
    batches = stage.share_batches(plan, shards, synth)
    if batches:
        stage.make_images(params, plan, shards, batches, table, classes, "none")

    return shards.finish()


def test_a_shards_images_lie_in_the_order_of_its_rows(open_shards, table, classes, tmp_path):
    """Rows whose batches, by strength, come in the opposite order; each is the same made alone."""
    plan = plan_of(["00000000", "00000003", "00000005"], [0.9, 0.7, 0.5])

    manifest = make_lacking(open_shards(plan, "work"), plan, table, classes)
    made = Table(tmp_path / "work/result", manifest)
    pipeline, text = load_translator(Pretrained(id=PIPELINE, revision=None), classes, "none", SYNTH)

    assert list(manifest["key"]) == list(plan["key"])
    for row in range(3):
        alone = make_all(pipeline, table, text, None, plan.iloc[[row]], SYNTH)
        assert np.array_equal(decode(made.read(row)), alone[0])


def test_an_image_has_the_same_bits_in_whatever_company_and_place(pipeline, table):
    """What the store of single images rests on; batches of four, the last of them filled up."""
    plan = plan_of([f"{row % 6:08d}" for row in range(10)], [0.7] * 10)
    text = encode_prompts(pipeline, PROMPTS)
    ours = make_all(pipeline, table, text, None, plan, SYNTH)

    order = np.random.default_rng(0).permutation(10)
    shuffled = make_all(pipeline, table, text, None, plan.iloc[order], SYNTH)
    assert np.array_equal(shuffled, ours[order])


def test_a_larger_plan_takes_the_images_of_a_smaller_one_from_the_store(
    open_shards, table, classes, tmp_path, monkeypatch
):
    large = plan_of([f"{row % 6:08d}" for row in range(9)], [0.5, 0.7, 0.9] * 3)
    small = large.head(4)
    make_lacking(open_shards(small, "small", "1"), small, table, classes)
    made: list[str] = []
    add = Shards.add

    def noted(self, numbers, images):
        made.extend(self.keys[list(numbers)])
        add(self, numbers, images)

    monkeypatch.setattr(Shards, "add", noted)
    monkeypatch.setattr(forks, "cores", lambda: 1)
    again = make_lacking(open_shards(large, "large", "1"), large, table, classes)
    assert sorted(made) == list(large["key"][4:])

    fresh = make_lacking(open_shards(large, "fresh", "0"), large, table, classes)
    assert again.equals(fresh)
    for shard in fresh["shard"].unique():
        one, other = (tmp_path / work / "result" / shard for work in ("large", "fresh"))
        assert one.read_bytes() == other.read_bytes()


def test_without_the_store_a_batch_is_the_plans_own_whatever_is_lacking(open_shards):
    plan = plan_of([""] * 6, [0.5, 0.7] * 3)
    open_shards(plan, "work").add([0], [b"made before"])

    batches = stage.share_batches(plan, open_shards(plan, "work"), PAIRS)
    assert [batch.tolist() for batch in batches] == [[0, 2], [1, 3], [4], [5]]


def test_with_the_store_batches_are_made_of_what_is_lacking(open_shards):
    plan = plan_of([""] * 6, [0.5, 0.7] * 3)
    open_shards(plan, "work", "1").add([0], [b"made before"])

    batches = stage.share_batches(plan, open_shards(plan, "work", "1"), PAIRS)
    assert [batch.tolist() for batch in batches] == [[1, 3], [2, 4], [5]]


def test_what_was_made_before_is_not_written_again(open_shards, tmp_path):
    """The others of its batch are lacking, so that it is made again: to the same bits."""
    plan = plan_of([""] * 2, [0.5] * 2)
    open_shards(plan, "work").add([0], [b"made before"])

    shards = open_shards(plan, "work")
    stage.share_batches(plan, shards, PAIRS)
    shards.add([0, 1], [b"made again", b"made now"])

    assert Table(tmp_path / "work/result", shards.finish()).read(0) == b"made before"


@pytest.mark.parametrize(
    "change",
    [{"source_key": "00000001"}, {"target_label": 2}, {"strength": 0.7}, {"seed": 7}],
)
def test_another_image_has_another_name_in_the_store(change):
    plan = plan_of(["00000000"], [0.5])
    other = plan.assign(**change)

    assert stage.stored_name("a", plan, 0) == stage.stored_name("a", plan.assign(key="9"), 0)
    assert stage.stored_name("a", plan, 0) != stage.stored_name("a", other, 0)
    assert stage.stored_name("a", plan, 0) != stage.stored_name("b", plan, 0)


def test_a_plan_that_names_an_unknown_image_is_refused(tmp_path):
    sources = locate_rows(pd.DataFrame({"key": ["a"], "label": [0]}), "shard-00000.tar", [(512, 1)])
    write_csv(tmp_path / "plan.csv", plan_of(["a", "zz"], [0.5, 0.5]))
    with pytest.raises(SystemExit, match=r"plan.csv: source_key 'zz' is not in"):
        read_plan(tmp_path / "plan.csv", sources)


@pytest.fixture(scope="module")
def words(pipeline) -> torch.Tensor:
    weights = []
    for prompt in PROMPTS:
        weights.append(prompt_weights(pipeline.tokenizer, prompt, *prompt.split()[-2:]))

    return torch.stack(weights)


def test_a_kept_background_is_the_resized_references_to_the_byte(
    pipeline, table, words, monkeypatch
):
    plan = plan_of(["00000000", "00000003", "00000000"], [0.9, 0.9, 0.9])
    text = encode_prompts(pipeline, PROMPTS)
    masks = []

    def noted(*given):
        masks.append(foreground_masks(*given))
        return masks[0]

    monkeypatch.setattr(stage, "foreground_masks", noted)
    synth = SYNTH.model_copy(update={"resolution": 48, "keep_background": True})
    kept = make_all(pipeline, table, text, words, plan, synth)
    plain = make_all(pipeline, table, text, None, plan, synth)

    resized = [table.image(row).resize((48, 48), Image.Resampling.LANCZOS) for row in (0, 3, 0)]
    references = np.stack([np.asarray(image, int) for image in resized])
    inside = masks[0][:3]  # the fourth fills up the batch
    assert 0 < inside.mean() < 1
    assert np.array_equal(kept[~inside], references[~inside])
    assert np.array_equal(kept[inside], plain[inside])
    assert not np.array_equal(plain[~inside], references[~inside])


def test_each_image_lies_on_its_own_reference():
    def filled(value: int) -> Image.Image:
        return Image.new("RGB", (2, 1), (value,) * 3)

    masks = np.array([[[True, False]], [[False, True]]])
    made = keep_background([filled(10), filled(20)], [filled(1), filled(2)], masks)
    assert [np.asarray(image)[..., 0].tolist() for image in made] == [[[10, 1]], [[2, 20]]]


def test_a_background_cannot_be_kept_where_images_come_from_noise():
    synth = SYNTH.model_copy(update={"keep_background": True})
    with pytest.raises(
        SystemExit, match=r"params.yaml: synth.keep_background: mode gen has no reference"
    ):
        check_mode("gen", synth)

    check_mode("mix", synth)
    check_mode("gen", SYNTH)
