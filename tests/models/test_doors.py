"""Every function that takes a mask or ids accepts right ones, and says what is right for wrong ones."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import transformer_zoo as tz
from tests.flat import beam_search, generate
from tests.models.helpers import GPT_VARIANTS, VARIANTS, small_gpt, small_model
from transformer_zoo.blocks import (
    Attention,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    KVCache,
    LayerNorm,
    LearnedPositions,
    NgramEmbedding,
    RotaryPositions,
    SinusoidalPositions,
    TokenEmbedding,
    attend,
    attention_weights,
    check_mask,
    combine_masks,
    key_mask,
)
from transformer_zoo.models import Decoder, Encoder
from transformer_zoo.training.loss import flat_tokens, linear_cross_entropy

B, T, D, H = 2, 4, 12, 3
x = torch.randn(B, T, D)
heads = torch.randn(B, H, T, 4)
ids = torch.tensor([[5, 6, 7, 3], [8, 9, 5, 3]])
attention, encoder_layer, decoder_layer = (
    Attention(D, H).eval(),
    EncoderLayer.paper(D, H, 8).eval(),
    DecoderLayer.paper(D, H, 8),
)
gpt, translator = small_gpt(), small_model()
bare = DecoderLayer(Attention(D, H), FeedForward(D, 8), LayerNorm(D))


def cached() -> KVCache:
    return KVCache.empty(B, H, 8, D // H)


def gpt_after_two(mask: Any) -> Tensor:
    cache = gpt.new_cache(B, 8)
    gpt(ids[:, :2], cache=cache)
    return gpt(ids[:, 2:], mask, cache=cache)


def decode_after_two(mask: Any) -> Tensor:
    cache = translator.new_cache(translator.encode(ids), 8)
    translator.decode(ids[:, :2], cache=cache)
    return translator.decode(ids[:, 2:], target_mask=mask, cache=cache)


def stack_decoder(**masks: Any) -> Tensor:
    module: Decoder = translator.decoder
    return module(x, x, **masks)


def stack_encoder(mask: Any) -> Tensor:
    module: Encoder = translator.encoder
    return module(x, mask=mask)


# Functions that give masks to attention: they broadcast to (B, H, T, T).
SCORES: dict[str, Callable[[Any], object]] = {
    "check_mask": lambda m: check_mask(m, (B, H, T, T)),
    "combine_masks": lambda m: combine_masks(torch.ones(B, 1, T, T, dtype=torch.bool), m),
    "attend": lambda m: attend(heads, heads, heads, mask=m),
    "attend, softcap": lambda m: attend(heads, heads, heads, mask=m, softcap=3.0),
    "attend, dropout": lambda m: attend(heads, heads, heads, mask=m, dropout=0.5),
    "attend, bias": lambda m: attend(heads, heads, heads, mask=m, bias=torch.zeros(T, T)),
    "attention_weights": lambda m: attention_weights(heads, heads, mask=m),
    "Attention": lambda m: attention(x, mask=m),
    "Attention, causal": lambda m: attention(x, mask=m, is_causal=True),
    "Attention, weights": lambda m: attention(x, mask=m, return_weights=True),
    "Attention, memory": lambda m: attention(x, x, mask=m),
    "Attention, cache": lambda m: attention(x, mask=m, cache=cached()),
    "Attention, projected": lambda m: attention(x, attention.project_memory(x), mask=m),
    "EncoderLayer": lambda m: encoder_layer(x, mask=m),
    "DecoderLayer": lambda m: decoder_layer(x, x, mask=m),
    "DecoderLayer, memory": lambda m: decoder_layer(x, x, memory_mask=m),
    "DecoderLayer, projected": lambda m: decoder_layer(x, decoder_layer.cross_attn.project_memory(x), memory_mask=m),
    "DecoderLayer, cache": lambda m: decoder_layer(x, x, mask=m, cache=cached()),
    "DecoderLayer, alone": lambda m: bare(x, mask=m),
    "Encoder": stack_encoder,
    "Decoder": lambda m: stack_decoder(mask=m),
    "Decoder, memory": lambda m: stack_decoder(memory_mask=m),
    "decode": lambda m: translator.decode(ids, translator.encode(ids), attention_mask=m),
}
# Functions that give masks (B, T) to models.
TOKENS: dict[str, Callable[[Any], object]] = {
    "key_mask": lambda m: key_mask(m, (B, T)),
    "DecoderOnly": lambda m: gpt(ids, m),
    "DecoderOnly, n-grams": lambda m: small_gpt(ngrams={"n": 3, "rows": 11})(ids, m),
    "DecoderOnly, window": lambda m: small_gpt(sliding_window=2)(ids, m),
    "DecoderOnly.hidden": lambda m: gpt.hidden(ids, m),
    "DecoderOnly, cache": gpt_after_two,
    "source_mask": lambda m: translator(ids, ids, m),
    "target_mask": lambda m: translator(ids, ids, None, m),
    "encode": lambda m: translator.encode(ids, m),
    "decode": lambda m: translator.decode(ids, translator.encode(ids), m),
    "decode, target": lambda m: translator.decode(ids, translator.encode(ids), None, m),
    "decode, uncounted": lambda m: small_model(**VARIANTS["offset"])(ids, ids, m, m),
    "decode, cache": decode_after_two,
    "beam_search": lambda m: beam_search(translator, ids, m, beam=2),
    "flat_tokens": lambda m: flat_tokens(x, ids, m),
}

RIGHT = torch.tensor([[True, True, True, False], [True, True, True, True]])
WRONG: dict[str, Callable[[Tensor], Any]] = {
    "float 1/0": lambda m: m.float(),
    "float 0/-inf": lambda m: torch.zeros(m.shape).masked_fill(~m, -torch.inf),
    "double": lambda m: m.double(),
    "half": lambda m: m.half(),
    "bfloat16": lambda m: m.bfloat16(),
    "int64": lambda m: m.long(),
    "int32": lambda m: m.int(),
    "int8": lambda m: m.to(torch.int8),
    "uint8": lambda m: m.to(torch.uint8),
    "complex": lambda m: m.to(torch.complex64),
    "numpy booleans": lambda m: m.numpy(),
    "numpy numbers": lambda m: m.numpy().astype(np.float32),
    "list": lambda m: m.tolist(),
    "tuple": lambda m: tuple(m.tolist()),
    "number": lambda m: 1,
    "text": lambda m: "causal",
    "True": lambda m: True,
}
DOORS = [(SCORES[name], RIGHT[:, None, None]) for name in SCORES] + [(TOKENS[name], RIGHT) for name in TOKENS]
NAMES = [*SCORES, *(f"{name} (B, T)" for name in TOKENS)]


@pytest.mark.parametrize("door", DOORS, ids=NAMES)
def test_a_mask_is_boolean_at_every_door(door: tuple[Callable[[Any], object], Tensor]) -> None:
    enter, right = door
    enter(right)
    enter(torch.ones_like(right))
    for name, make in WRONG.items():
        wrong = make(right)
        with pytest.raises(ValueError, match="boolean") as refused:
            enter(wrong)
        given = str(wrong.dtype) if hasattr(wrong, "dtype") else f"a {type(wrong).__name__}"
        assert given in str(refused.value), (name, refused.value)
        assert "expected" in str(refused.value) or "got" in str(refused.value), name


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("shape", [(T + 1,), (3, T), (B, T + 1, T), (B, 5, T, T), (B + 1, 1, T, T), (1, B, H, T, T)])
def test_a_mask_of_scores_broadcasts(name: str, shape: tuple[int, ...]) -> None:
    if name == "combine_masks" and len(shape) > 3:
        return  # it does not know the heads
    with pytest.raises(ValueError, match=r"broadcast"):
        SCORES[name](torch.ones(shape, dtype=torch.bool))


@pytest.mark.parametrize("name", TOKENS)
@pytest.mark.parametrize("shape", [(T,), (B, T - 1), (B, T + 1), (B + 1, T), (1, T), (B, 1), (B, 1, 1, T), (B, T, T)])
def test_a_mask_of_tokens_has_one_boolean_for_each(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="boolean"):
        TOKENS[name](torch.ones(shape, dtype=torch.bool))


@pytest.mark.parametrize("bias", [RIGHT[:, None, None], torch.zeros(T, T, dtype=torch.int64), [0.0], np.zeros(T)])
def test_a_bias_is_no_mask(bias: Any) -> None:
    for enter in (
        lambda: attend(heads, heads, heads, bias=bias),
        lambda: attention(x, bias=bias),
        lambda: encoder_layer(x, bias=bias),
    ):
        with pytest.raises(ValueError, match=r"bias is .*, expected a tensor of floating-point numbers"):
            enter()


def test_a_refused_mask_leaves_the_cache_as_it_was() -> None:
    cache, wrong = gpt.new_cache(B, 8), torch.ones(B, T)
    with pytest.raises(ValueError, match="booleans"):
        gpt(ids, wrong, cache=cache)
    assert cache.length == 0
    for masks in ({"mask": wrong[:, None, None]}, {"memory_mask": wrong[:, None, None]}):
        held = cached()
        with pytest.raises(ValueError, match="booleans"):
            decoder_layer(x, x, cache=held, **masks)
        assert held.length == 0


def test_a_layer_without_cross_attention_takes_no_memory() -> None:
    for given in ({"memory": x}, {"memory_mask": RIGHT[:, None, None]}):
        with pytest.raises(ValueError, match="no cross-attention"):
            bare(x, **given)


INTEGERS = [torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8]
small = torch.tensor([[5, 6, 7, 3], [8, 9, 5, 3]])


def twice(model: tz.EncoderDecoder) -> Callable[[Tensor], Tensor]:
    return lambda i: model(i, i)


OF_IDS: dict[str, Callable[[Tensor], Any]] = {
    "TokenEmbedding": TokenEmbedding(19, D, pad_id=0),
    "NgramEmbedding": NgramEmbedding(D, 3, 101),
    "NgramEmbedding, previous": lambda i: NGRAMS(i[:, 2:], i[:, :2]),
    "NgramEmbedding, documents": lambda i: NGRAMS(i, documents=i),
    **{f"DecoderOnly {name}": small_gpt(**fields) for name, fields in GPT_VARIANTS.items()},
    **{f"EncoderDecoder {name}": twice(small_model(**fields)) for name, fields in VARIANTS.items()},
    "mask and n-grams": lambda i: WITH_NGRAMS(i, RIGHT),
    "documents": lambda i: gpt(i, documents=i),
    "positions": lambda i: gpt(i, positions=i),
    "positions, rotary": lambda i: ROTATING(i, positions=i),
    "LearnedPositions": lambda i: LEARNED(1, i),
    "SinusoidalPositions": lambda i: SinusoidalPositions(D)(1, i),
    "RotaryPositions": lambda i: RotaryPositions(D)(0, 1, i).cos,
    "generate": lambda i: torch.tensor(generate(gpt, i, max_new_tokens=4, temperature=0.0, ignore_eos=True)),
    "beam_search": lambda i: torch.tensor(
        [best[0].log_prob for best in beam_search(translator, i, beam=2, max_extra=3)]
    ),
    "linear_cross_entropy": lambda i: linear_cross_entropy(x.flatten(0, 1), HEAD, i.flatten())[0],
    "loss of selected": lambda i: linear_cross_entropy(*select(i))[0],
}
NGRAMS, WITH_NGRAMS, ROTATING = (
    NgramEmbedding(D, 3, 101),
    small_gpt(ngrams={"n": 3, "rows": 101}),
    small_gpt(positions="rotary"),
)
LEARNED, HEAD = LearnedPositions(16, D), torch.randn(19, D)
torch.nn.init.normal_(NGRAMS.weight)
torch.nn.init.normal_(OF_IDS["NgramEmbedding"].weight)  # type: ignore[attr-defined]


def select(i: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    hidden, targets = flat_tokens(x, i, RIGHT)
    return hidden, HEAD, targets


@pytest.mark.parametrize("name", OF_IDS)
def test_ids_of_any_integer_type_give_the_same(name: str) -> None:
    wanted = OF_IDS[name](small)
    for dtype in INTEGERS:
        assert torch.equal(OF_IDS[name](small.to(dtype)), wanted), dtype


NOT_IDS = [
    small.float(),
    small.half(),
    small.bool(),
    small.to(torch.complex64),
    small.tolist(),
    small.numpy(),
    None,
    "text",
]
TAKE_IDS = [
    name
    for name in OF_IDS
    if not any(word in name for word in ("documents", "positions", "Positions", "generate", "beam_search", "selected"))
]


@pytest.mark.parametrize("name", TAKE_IDS)
@pytest.mark.parametrize("wrong", NOT_IDS, ids=[type(w).__name__ + str(getattr(w, "dtype", "")) for w in NOT_IDS])
def test_what_are_no_ids_is_refused(name: str, wrong: Any) -> None:
    if not isinstance(wrong, Tensor) and name in ("linear_cross_entropy", "NgramEmbedding, previous"):
        return  # which the test cuts into pieces
    with pytest.raises(ValueError, match="expected a tensor of whole numbers"):
        OF_IDS[name](wrong)


@pytest.mark.parametrize("shape", [(4,), (2, 2, 2), ()])
def test_ids_of_a_batch_have_two_dimensions(shape: tuple[int, ...]) -> None:
    wrong = torch.ones(shape, dtype=torch.int64)
    for enter in (gpt, lambda i: translator(i, small), lambda i: translator(small, i), NGRAMS, translator.encode):
        with pytest.raises(ValueError, match=r"expected a tensor of whole numbers, \(B, T\)"):
            enter(wrong)


@pytest.mark.parametrize("prompts", [small.float(), small.bool(), [[True]], [[1.0]], [1, 2], [["a"]], "text", None])
def test_prompts_are_whole_numbers(prompts: Any) -> None:
    for write in (partial(tz.generate, gpt), partial(tz.beam_search, translator)):
        with pytest.raises(tz.UserError, match="prompts are rows of token ids"):
            write(prompts)
