"""Cross-attention maps are the UNet's own, and recording them changes nothing."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention_processor import Attention, AttnProcessor2_0
from PIL import Image

from stages.attention import ranking
from stages.datasets.toybirds.drawing import render
from stages.datasets.toybirds.species import SPECIES
from stages.shared.diffusion.attention_maps import (
    Record,
    attention_probabilities,
    class_prompt_weights,
    enlarge,
    foreground_masks,
    map_sides,
    otsu,
    prompt_weights,
    record_attention,
)
from stages.shared.diffusion.base_model import load_base
from stages.shared.diffusion.sampling import Sampling
from stages.shared.diffusion.text import encode_prompts
from stages.shared.diffusion.translation import (
    References,
    draw_noise,
    encode_references,
    translate_latents,
)
from stages.shared.pretrained.reference import Pretrained
from stages.shared.tables import Table, encode_png, write_table
from tests.conftest import PIPELINE
from tests.support.sampling import PLAIN

SAMPLING = Sampling(**PLAIN, steps=10, guidance_scale=2.0, resolution=64, batch=32)
PROMPT = "a photo of a blue bird"


@pytest.fixture(scope="module")
def pipeline():
    return load_base(Pretrained(id=PIPELINE, revision=None), torch.float32)


@pytest.fixture(scope="module")
def birds() -> list[tuple[np.ndarray, np.ndarray]]:
    """Sixteen birds with their masks."""
    rng = np.random.default_rng(5)
    return [render(SPECIES[n % 12].bird, "land" if n % 2 else "water", rng, 64) for n in range(16)]


def references(pipeline, folder, birds) -> tuple[References, pd.Series]:
    """The birds as an encoded table, and its keys."""
    images = [encode_png(Image.fromarray(image)) for image, _ in birds]
    write_table(folder, images, pd.DataFrame({"label": [0] * len(images)}))
    table = Table(folder)

    return References(pipeline, table, SAMPLING), table.rows["key"]


def recorded(
    pipeline, latents: torch.Tensor, weights: torch.Tensor, strength: float, guidance: float = 2.0
):
    """The maps of translations of `latents` under PROMPT, and the images."""
    count = len(latents)
    with record_attention(pipeline, weights.expand(count, -1, -1), 64) as record:
        images = translated(pipeline, latents, strength, guidance)

    return record.maps(), images


def translated(
    pipeline, latents: torch.Tensor, strength: float, guidance: float = 2.0
) -> torch.Tensor:
    """The images, bytes."""
    sampling = SAMPLING.model_copy(update={"guidance_scale": guidance})
    count = len(latents)
    text = encode_prompts(pipeline, [PROMPT]).rows([0] * count + [1])
    generators = [torch.Generator().manual_seed(n) for n in range(count)]
    noise = draw_noise(pipeline, 64, generators, pipeline.unet.dtype)

    return translate_latents(pipeline, latents, noise, text, strength, sampling, generators)


@pytest.fixture(scope="module")
def latents(pipeline, tmp_path_factory, birds) -> torch.Tensor:
    found, keys = references(pipeline, tmp_path_factory.mktemp("birds"), birds)
    rows = pd.DataFrame({"source_key": keys, "seed": range(len(birds))})
    return encode_references(pipeline, found.start(rows))


@pytest.fixture(scope="module")
def weights(pipeline) -> torch.Tensor:
    return prompt_weights(pipeline.tokenizer, PROMPT, "blue", "bird")


def test_recording_changes_no_bit_of_the_images(pipeline, latents, weights):
    _, images = recorded(pipeline, latents[:3], weights, 0.7)
    assert torch.equal(images, translated(pipeline, latents[:3], 0.7))


def test_the_processors_are_put_back_also_after_an_error(pipeline, weights):
    def fail() -> None:
        assert pipeline.unet.attn_processors != before
        raise KeyError

    before = pipeline.unet.attn_processors
    with pytest.raises(KeyError), record_attention(pipeline, weights[None], 64):
        fail()

    assert pipeline.unet.attn_processors == before


def test_probabilities_are_the_softmax_that_numpy_computes():
    torch.manual_seed(0)
    layer = Attention(query_dim=6, cross_attention_dim=5, heads=2, dim_head=3)
    states = torch.randn(2, 4, 6)
    text = torch.randn(2, 7, 5)

    query = states.numpy() @ layer.to_q.weight.detach().numpy().T
    key = text.numpy() @ layer.to_k.weight.detach().numpy().T
    expected = np.zeros((2, 4, 7))
    for head in (slice(0, 3), slice(3, 6)):
        scores = np.exp(query[..., head] @ key[..., head].transpose(0, 2, 1) / np.sqrt(3))
        expected += scores / scores.sum(2, keepdims=True) / 2

    with torch.no_grad():
        ours = attention_probabilities(layer, states, text)
    np.testing.assert_allclose(ours, expected, rtol=1e-5)


def test_probabilities_explain_what_diffusers_own_processor_returns():
    """With one head the output is the projected mean of the values under the probabilities."""
    torch.manual_seed(0)
    layer = Attention(
        query_dim=6, cross_attention_dim=5, heads=1, dim_head=4, processor=AttnProcessor2_0()
    )
    states = torch.randn(2, 9, 6)
    text = torch.randn(2, 7, 5)

    with torch.no_grad():
        explained = layer.to_out[0](attention_probabilities(layer, states, text) @ layer.to_v(text))
        torch.testing.assert_close(explained, layer(states, text))


def test_the_maps_of_all_tokens_together_are_one_everywhere(pipeline, latents):
    maps, _ = recorded(pipeline, latents[:2], torch.ones(1, 32), 0.7)
    torch.testing.assert_close(maps, torch.ones(2, 1, 8, 8))


def test_it_is_the_conditional_half_that_is_recorded(pipeline, latents, weights):
    """In a single step guidance has not yet moved the latents: maps are the same without it."""
    guided, _ = recorded(pipeline, latents[:2], weights, 0.1)
    unguided, _ = recorded(pipeline, latents[:2], weights, 0.1, guidance=1.0)
    torch.testing.assert_close(guided, unguided)


def test_a_map_does_not_depend_on_the_batch(pipeline, latents, weights):
    together, _ = recorded(pipeline, latents[:3], weights, 0.5)
    alone, _ = recorded(pipeline, latents[:1], weights, 0.5)
    torch.testing.assert_close(together[:1], alone)


def test_a_record_averages_over_layers_and_leaves_out_other_sizes():
    layer = Attention(query_dim=4, cross_attention_dim=4, heads=1, dim_head=4)
    text = torch.randn(3, 5, 4)
    weights = torch.tensor([[[0.5, 0.5, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 0.0, 0.0]]])
    record = Record(weights, side=4, sides=[2])

    # queries of zero attend alike: a fifth to each token
    with torch.no_grad():
        record.add(layer, torch.zeros(3, 4, 4), text)
        record.add(layer, torch.zeros(3, 4, 4), text)
        record.add(layer, torch.zeros(3, 16, 4), text)

    assert record.count == 2
    expected = torch.tensor([0.2, 0.6]).view(1, 2, 1, 1).expand(1, 2, 4, 4)
    torch.testing.assert_close(record.maps(), expected)


def test_half_precision_is_recorded_as_floats(weights):
    half = load_base(Pretrained(id=PIPELINE, revision=None), torch.float16)
    maps, _ = recorded(half, torch.zeros(1, 16, 8, 8), weights, 0.1)

    assert maps.dtype == torch.float32
    assert 0 < maps.min() <= maps.max() < 1


def unet(*kinds: str) -> SimpleNamespace:
    return SimpleNamespace(config=SimpleNamespace(down_block_types=kinds))


def test_maps_of_16_and_32_are_taken_where_there_are_any():
    cross = "CrossAttnDownBlock2D"
    plain = "DownBlock2D"

    # Stable Diffusion 1.5 at 512 pixels, Stable Diffusion XL at 1024 pixels, the embedded base
    assert map_sides(unet(cross, cross, cross, plain), 64) == [32, 16]
    assert map_sides(unet(plain, cross, cross), 128) == [32]
    assert map_sides(unet(cross, cross), 8) == [8]


@pytest.mark.parametrize("side", [33, 45, 89])  # latents of 264, 360 and 712 pixels
def test_an_odd_number_of_latents_has_its_maps(side, weights):
    """The UNet halves 45 cells to 23, and these to 12."""
    cross = ("CrossAttnDownBlock2D",) * 3
    network = UNet2DConditionModel(
        block_out_channels=(8, 8, 8), norm_num_groups=4, layers_per_block=1, attention_head_dim=4,
        cross_attention_dim=4, down_block_types=cross,
        up_block_types=("CrossAttnUpBlock2D",) * 3,
    )  # fmt: skip
    made = SimpleNamespace(unet=network, vae_scale_factor=8, device=torch.device("cpu"))

    with torch.no_grad(), record_attention(made, weights[None], 8 * side) as record:
        network(torch.randn(1, 4, side, side), 10, torch.randn(1, weights.shape[1], 4))

    maps = record.maps()
    assert maps.shape == (1, len(weights), side, side)
    assert 0 < maps[0, 0].min() <= maps[0, 0].max() < 1


def weight_by_position(row: torch.Tensor) -> dict[int, float]:
    """The weights that are not zero, by their token's position."""
    return {int(n): round(float(row[n]), 4) for n in row.nonzero()}


def test_each_word_is_the_mean_of_its_own_tokens(pipeline):
    tokenizer = pipeline.tokenizer
    prompt = "a photo of a Prairie Quill bird"
    pieces = [len(tokenizer(word, add_special_tokens=False).input_ids) for word in prompt.split()]
    first = 1 + sum(pieces[:4])  # behind the start of the text
    count = sum(pieces[4:6])
    end = 1 + sum(pieces)

    identifier, metaclass, end_of_text = prompt_weights(tokenizer, prompt, "Prairie Quill", "bird")
    share = round(1 / count, 4)
    assert weight_by_position(identifier) == dict.fromkeys(range(first, first + count), share)
    assert weight_by_position(metaclass) == {end - 1: 1.0}
    assert weight_by_position(end_of_text) == {end: 1.0}
    assert tokenizer(prompt).input_ids[end] == tokenizer.eos_token_id


def test_a_word_that_truncation_cuts_off_has_no_weight(pipeline):
    name = "z" * 60
    identifier, metaclass, end_of_text = prompt_weights(
        pipeline.tokenizer, f"a photo of a {name} bird", name, "bird"
    )

    assert max(weight_by_position(identifier)) == 30
    assert float(identifier.sum()) == pytest.approx(1)
    assert weight_by_position(metaclass) == {}
    assert weight_by_position(end_of_text) == {31: 1.0}


def test_the_identifier_is_the_token_where_one_is_learned_and_the_name_where_none_is(classes):
    tokenizer = load_base(Pretrained(id=PIPELINE, revision=None), torch.float32).tokenizer
    tokenizer.add_tokens(classes["token"].tolist())

    ids = torch.tensor(tokenizer("a photo of a <class-0001> bird", padding="max_length").input_ids)
    learned = class_prompt_weights(tokenizer, classes, "ti+db")[1]
    assert tokenizer.convert_ids_to_tokens(ids[learned[0] > 0].tolist()) == ["<class-0001>"]

    named = class_prompt_weights(tokenizer, classes, "db")[1]
    ids = torch.tensor(tokenizer("a photo of a Prairie Quill bird", padding="max_length").input_ids)
    assert tokenizer.decode(ids[named[0] > 0]).strip().lower() == "prairie quill"


def test_otsu_parts_two_groups_whatever_their_scale():
    values = torch.tensor([[1.0, 9.0, 2.0, 8.0, 1.5], [10.0, 90.0, 20.0, 80.0, 15.0]])
    assert otsu(values).flatten().tolist() == [8.0, 80.0]


def test_a_mask_is_the_bright_part_of_both_words_with_a_cell_around_it():
    maps = torch.zeros(1, 3, 8, 8)
    maps[0, 0, 4, 2] = 1
    maps[0, 1, 4, 3] = 1
    maps[0, 2, 0, 7] = 9  # end-of-text does not count

    rows, columns = np.nonzero(foreground_masks(maps, 8)[0])
    assert (rows.min(), rows.max()) == (3, 5)
    assert (columns.min(), columns.max()) == (1, 4)
    assert len(rows) == 12


def test_a_flat_map_masks_nothing_out():
    assert foreground_masks(torch.full((1, 3, 8, 8), 0.1), 32).all()


def mean_ranking(maps: np.ndarray, masks: list[np.ndarray]) -> float:
    return float(np.mean([ranking(scores, mask) for scores, mask in zip(maps, masks, strict=True)]))


def test_the_embedded_base_s_maps_follow_the_bird_of_their_own_picture(
    pipeline, latents, weights, birds
):
    """The adjective's and the text's end are bright on it; the metaclass's is dark there."""
    maps = enlarge(recorded(pipeline, latents, weights, 0.5)[0], 64).numpy()
    masks = [mask for _, mask in birds]

    for word, sign in ((0, 1), (1, -1), (2, 1)):
        own = mean_ranking(maps[:, word], masks)
        foreign = mean_ranking(maps[:, word], masks[8:] + masks[:8])
        assert sign * (own - 50) > sign * (foreign - 50) + 3 > 18
