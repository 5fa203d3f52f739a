"""Every field of a model with every choice of the others: it changes something, or it is refused by name."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.flat import beam_search, generate
from transformer_zoo.config import CHOICES, DecoderConfig, EncoderDecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.models import DecoderOnly, EncoderDecoder
from transformer_zoo.zoo import PRESETS, build, get_config

Config = EncoderDecoderConfig | DecoderConfig
SMALL: dict[str, Any] = {"vocab_size": 37, "d_model": 32, "n_heads": 4, "d_ff": 24, "max_seq_len": 64}
BASES: dict[type, dict[str, Any]] = {
    EncoderDecoderConfig: SMALL | {"n_encoder_layers": 2, "n_decoder_layers": 2},
    DecoderConfig: SMALL | {"n_layers": 2, "eos_id": 3},
}
# Another value than the default, for all fields but those whose choices are all tried.
OTHER: dict[str, Any] = {
    "vocab_size": 38, "d_model": 48, "n_heads": 2, "n_kv_heads": 2, "head_dim": 12, "d_ff": 20, "dropout": 0.3,
    "attention_dropout": 0.3, "activation_dropout": 0.3, "norm_eps": 0.5, "attention_softcap": 0.5,
    "attention_scale": 0.9, "sliding_window": 3, "windowed_layers": (1,), "position_offset": 2,
    "relative_buckets": 8, "relative_max_distance": 20, "rotary_base": 50.0, "rotary_dim": 4, "rotary_factor": 3.0,
    "rotary_low_freq_factor": 2.0, "rotary_high_freq_factor": 9.0, "rotary_original_max_seq_len": 100,
    "rotary_beta_fast": 5.0, "rotary_beta_slow": 20.0, "rotary_attention_factor": 0.7, "logit_scale": 0.5,
    "target_vocab_size": 41, "n_encoder_layers": 1, "n_decoder_layers": 1, "n_layers": 1, "n_decoder_heads": 2,
    "decoder_d_ff": 20, "pad_id": 5, "bos_id": 6, "eos_id": 7, "source_end_id": 8, "forced_last_id": 9,
    "never_ids": (*range(3), *range(4, 7), *range(8, 20), *range(21, 37)), "d_embedding": 12, "ngrams": 3,
    "ngram_rows": 50, "logit_softcap": 0.5, "vocab_multiple": 8, "stop_ids": (10, 11),
}  # fmt: skip
# What such a model is asked for elsewhere: how long its texts are, and what its batches and prompts are made with.
ELSEWHERE = {"max_seq_len", "source_end_id", "bos_id", "eos_id", "stop_ids"}


def bases(cls: type) -> list[dict[str, Any]]:
    """The defaults, and each choice of each field that has some, with what it needs to have an effect itself."""
    found: list[dict[str, Any]] = [{}]
    needs = {"rotary_": {"positions": "rotary"}, "sinusoid_": {"positions": "sinusoidal"}}
    names = {field.name for field in dataclasses.fields(cls)}
    for name, choices in CHOICES.items():
        needed = next((fields for prefix, fields in needs.items() if name.startswith(prefix)), {})
        tried = choices[::6] if name == "activation" else choices  # which has to do with no other field
        found += [{**needed, name: choice} for choice in tried if name in names]
    found += [{name: False} for name in ("norm_affine", "bias")] + [{"gated": True}, {"qk_norm": True}]
    found += [{"ngrams": 2}, {"sliding_window": 3}, {"sliding_window": 3, "windowed_layers": ()}]
    return [base for base in found if base.keys() <= names and is_allowed(cls, base)]


def is_allowed(cls: type, fields: dict[str, Any]) -> bool:
    try:
        cls(**BASES[cls] | fields)
    except UserError:
        return False
    return True


def others(cls: type, config: Config) -> list[tuple[str, Any]]:
    """Each field with a value that it does not have."""
    found: list[tuple[str, Any]] = []
    for field in dataclasses.fields(cls):
        now = getattr(config, field.name)
        if field.name in CHOICES:
            found += [(field.name, choice) for choice in CHOICES[field.name] if choice != now]
        elif field.type is bool or isinstance(now, bool):
            found.append((field.name, not now))
        elif field.name in ("final_norm", "qkv_bias", "ffn_bias"):
            found.append((field.name, not (config.ends_in_norm if field.name == "final_norm" else config.bias)))
        elif field.name != "max_seq_len" and now != OTHER[field.name]:
            found.append((field.name, OTHER[field.name]))
    return found


def shaken(model: DecoderOnly | EncoderDecoder) -> None:
    """Weights that all have an effect, the same for one name and shape."""
    for name, weight in model.state_dict().items():
        generator = torch.Generator().manual_seed(sum(map(ord, name)))
        weight.add_(torch.randn(weight.shape, generator=generator), alpha=0.3)


def outcome(config: Config) -> Iterator[dict[str, Any]]:
    """What a model of this configuration is and does, the cheapest first: weights, logits, gradients, a text."""
    torch.manual_seed(1)
    model = build(config)
    yield {name: weight.clone() for name, weight in model.state_dict().items()}
    shaken(model)
    ids = torch.randint(13, 37, (2, 40), generator=torch.Generator().manual_seed(2))
    ids[0, 7] = 5  # pad in some configurations
    real = torch.ones_like(ids, dtype=torch.bool)
    real[1, :9] = real[1, 20] = False
    torch.manual_seed(3)
    for mode in ("eval", "train"):
        getattr(model, mode)()
        logits = model(ids, real) if isinstance(model, DecoderOnly) else model(ids, ids, real, real)
        yield {mode: logits.detach()}
    (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum().backward()
    yield {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.eval()
    if isinstance(model, DecoderOnly):
        yield {"text": generate(model, [[14, 15]], max_new_tokens=3, temperature=0.0)}
    else:
        yield {"text": [best[0].tokens for best in beam_search(model, ids[:, -4:], beam=2, max_length=3)]}


def differs(left: dict[str, Any], right: dict[str, Any]) -> bool:
    def same(a: Any, b: Any) -> bool:
        return a.shape == b.shape and torch.equal(a, b) if isinstance(a, Tensor) else a == b

    return left.keys() != right.keys() or not all(same(left[name], right[name]) for name in left)


@pytest.mark.parametrize(
    ("cls", "base"), [pytest.param(cls, base, id=f"{cls.__name__}-{base}") for cls in BASES for base in bases(cls)]
)
def test_every_field_changes_something_or_is_refused_by_name(cls: type, base: dict[str, Any]) -> None:
    config = cls(**BASES[cls] | base)
    before = list(outcome(config))
    for name, value in others(cls, config):
        if (refusal := refused(config, name, value)) is not None:
            assert any(re.search(rf"\b{field}\b", refusal) for field in (name, *base)), refusal
        elif name not in ELSEWHERE:
            after = outcome(dataclasses.replace(config, **{name: value}))
            assert any(map(differs, before, after)), f"{name}={value} changes nothing with {base}"


def refused(config: Config, name: str, value: Any) -> str | None:
    """Why the configuration cannot have this value; None: it can."""
    try:
        dataclasses.replace(config, **{name: value})
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("cls", "fields", "message"),
    [
        (DecoderConfig, {"norm_unit_offset": True}, "norm_unit_offset is True, and has no effect where norm is layern"),
        (DecoderConfig, {"norm": "rmsnorm", "norm_affine": False}, "norm_affine is False, and has no effect where no"),
        (DecoderConfig, {"norm": "rmsnorm", "norm_bias": False}, "norm_bias is False, and has no effect where norm is"),
        (EncoderDecoderConfig, {"rotary_base": 9.0}, "rotary_base is 9.0, and has no effect where positions is sinuso"),
        (DecoderConfig, {"windowed_layers": (1,)}, "windowed_layers is .*where sliding_window is None: leave it out"),
        (DecoderConfig, {"ngram_rows": 5}, "ngram_rows is 5, and has no effect where ngrams is 1"),
    ],
)
def test_the_message_says_what_takes_the_effect(cls: type, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cls(**BASES[cls] | fields)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_can_be_given_any_positions_and_norm(name: str) -> None:
    """What it says of those it had is forgotten; what the user says of them is not."""
    decoder = isinstance(PRESETS[name], DecoderConfig)
    for field in ("positions", "norm"):
        for choice in CHOICES[field]:
            assert getattr(get_config(name, **{field: choice}), field) == choice
    if decoder:
        with pytest.raises(UserError, match=r"rotary_base is 7\.0, and has no effect"):
            get_config(name, positions="learned", rotary_base=7.0)
