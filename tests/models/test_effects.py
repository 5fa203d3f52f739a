"""Every field of a model with every choice of the others: it changes something, or it is refused by name."""

import dataclasses
import re
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.flat import beam_search, generate
from transformer_zoo.config import DecoderConfig, EncoderDecoderConfig, Spec
from transformer_zoo.config.changes import hint_of
from transformer_zoo.config.spec import choices_of, kinds_of
from transformer_zoo.errors import UserError
from transformer_zoo.models import DecoderOnly, EncoderDecoder
from transformer_zoo.zoo import build, get_config, list_models

Config = EncoderDecoderConfig | DecoderConfig
SMALL: dict[str, Any] = {"vocab_size": 37, "d_model": 32, "n_heads": 4, "d_ff": 24, "max_seq_len": 64, "n_layers": 2}
BASES: dict[type[Config], dict[str, Any]] = {EncoderDecoderConfig: SMALL, DecoderConfig: SMALL | {"eos_id": 3}}
# Another value than the default, by the end of a field's address, for all but those whose choices are all tried.
OTHER: dict[str, Any] = {
    "vocab_size": 38, "d_model": 48, "n_heads": 2, "n_kv_heads": 2, "head_dim": 12, "d_ff": 20, "dropout": 0.3,
    "eps": 0.5, "softcap": 0.5, "clip": 0.05, "attention.scale": 0.9, "window": 3, "offset": 2, "blank": 3,
    "buckets": 8,
    "max_distance": 20, "base": 50.0, "dim": 4, "factor": 3.0, "low_freq_factor": 2.0, "high_freq_factor": 9.0,
    "original_max_seq_len": 100, "beta_fast": 5.0, "beta_slow": 20.0, "attention_factor": 0.7, "logit_scale": 0.5,
    "target_vocab_size": 41, "n_layers": 1, "pad_id": 5, "bos_id": 6, "eos_id": 7, "source_end_id": 8,
    "forced_last_id": 9, "never_ids": (*range(3), *range(4, 7), *range(8, 20), *range(21, 37)), "d_embedding": 12,
    "n": 3, "rows": 50, "residual_scale": 0.6, "logit_softcap": 0.5, "vocab_multiple": 8, "stop_ids": (10, 11),
}  # fmt: skip
# What such a model is asked for elsewhere: how long its texts are, and what its batches and prompts are made with.
ELSEWHERE = {"max_seq_len", "source_end_id", "bos_id", "eos_id", "stop_ids"}
CHOSEN = ("positions", "positions.layout", "positions.scaling", "norm", "norm.learned", "norm_position", "activation")


def bases(cls: type[Config]) -> list[dict[str, Any]]:
    """The defaults, and each choice of each field that has some, with what it needs."""
    found: list[dict[str, Any]] = [{}]
    for name in (*CHOSEN, *(field.name for field in dataclasses.fields(cls) if choices_of(field.type))):
        needed = {"positions.scaling": {"positions": "rotary"}}.get(name, {})
        words = choices(cls, name)
        tried = words[::6] if name == "activation" else words  # which has to do with no other field
        found += [{**needed, name: choice} for choice in tried]
    found += [{"positions": "rotary", "positions.layout": "interleaved"}, {"bias": False}, {"gated": True}]
    found += [{"attention.qk_norm": "rmsnorm"}, {"attention.qk_norm": "rmsnorm", "positions": "rotary"}]
    found += [{"ngrams": {"n": 2}}, {"sliding_window": 3}]
    found += [{"layer": [{}, {"attention": {"window": 3}}]}, {"layer": [{}, {"positions": "none"}]}]
    return [base for base in found if is_allowed(cls, base)]


def choices(cls: type[Config], name: str) -> list[str]:
    """The words that a field may be given."""
    hint = hint_of(cls, name)
    return [*kinds_of(hint), *choices_of(hint), *(["none"] if kinds_of(hint) and not isinstance(hint, type) else [])]


def is_allowed(cls: type[Config], fields: dict[str, Any]) -> bool:
    try:
        cls.of(**BASES[cls] | fields)
    except UserError:
        return False
    return True


def addresses(spec: Spec, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each field of a configuration and of the specs in it: address, type, value."""
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        yield prefix + field.name, field.type, value
        for inner in {type(one): one for one in (value if isinstance(value, tuple) else (value,))}.values():
            if isinstance(inner, Spec):
                yield from addresses(inner, f"{prefix}{field.name}.")


def others(cls: type[Config], config: Config) -> list[tuple[str, Any]]:
    """Each field with a value that it does not have."""
    found: list[tuple[str, Any]] = []
    for address, hint, now in addresses(config):
        if address.startswith("rules."):  # tests/inference/test_contract.py has a text by each
            continue
        last = address.rpartition(".")[2]
        words = choices(cls, address) if kinds_of(hint) else choices_of(hint)
        if words:
            kind = now.kind() if isinstance(now, Spec) else "none" if now is None else now
            same = ("relu6", kind) if kind == "relu" else (kind,)  # of what is below 6
            found += [(address, word) for word in words if word not in same]
        elif hint is bool or isinstance(now, bool) or last in ("final_norm", "qkv_bias"):
            found.append((address, not meant(config, address, now)))
        elif not kinds_of(hint) and last != "max_seq_len":
            other = next(OTHER[name] for name in (".".join(address.split(".")[-2:]), last) if name in OTHER)
            found += [(address, other)] if now != other else []
    return found


def meant(config: Config, address: str, now: Any) -> bool:
    """What a field of three values means: where it is None, another field decides."""
    stack = getattr(config, address.partition(".")[0])
    if now is None:
        return stack.ends_in_norm if address.endswith("final_norm") else stack.layers[0].attention.bias
    return bool(now)


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
def test_every_field_changes_something_or_is_refused_by_name(cls: type[Config], base: dict[str, Any]) -> None:
    config = cls.of(**BASES[cls] | base)
    before = list(outcome(config))
    for address, value in others(cls, config):
        if (refusal := refused(config, address, value)) is not None:
            names = [address.rpartition(".")[2], *base, "norm_position", "n_heads"]
            assert any(re.search(rf"\b{re.escape(name)}\b", refusal) for name in names), refusal
        elif address not in ELSEWHERE and (changed := config.changed(**{address: value})) != config:
            after = outcome(changed)
            assert any(map(differs, before, after)), f"{address}={value} changes nothing with {base}"


def refused(config: Config, address: str, value: Any) -> str | None:
    """Why the configuration cannot have this value; None: it can."""
    try:
        config.changed(**{address: value})
    except UserError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("cls", "fields", "message"),
    [
        (DecoderConfig, {"norm.offset": True}, "norm.offset: layernorm has no field 'offset'"),
        (
            DecoderConfig,
            {"norm.unit_offset": True, "norm.learned": "nothing"},
            "norm.unit_offset has no effect where norm.learned is nothing",
        ),
        (
            DecoderConfig,
            {"attention.qk_norm": "rmsnorm", "attention.qk_norm_after_rotation": True},
            "qk_norm_after_rotation has no effect without rotary positions",
        ),
        (
            DecoderConfig,
            {"positions": "rotary", "attention.qk_norm_after_rotation": True},
            "qk_norm_after_rotation has no effect where qk_norm is none",
        ),
        (
            DecoderConfig,
            {"norm": "rmsnorm", "norm.unit_offset": True, "norm.learned": "nothing"},
            "norm.unit_offset has no effect where norm.learned is nothing",
        ),
        (EncoderDecoderConfig, {"positions.base": 9.0}, "positions.base: sinusoidal has no field 'base'"),
        (DecoderConfig, {"positions.ofset": 9}, "learned has no field 'ofset'; did you mean offset"),
        (DecoderConfig, {"positions": "none", "positions.offset": 1}, "positions.offset: "),
        (DecoderConfig, {"ngrams": {"n": 1}}, "NgramSpec.n is 1, expected at least 2"),
        (DecoderConfig, {"layer": [{}, {}, {"positions": "none"}]}, "layer describes 3 layers, and there are 2"),
        (EncoderDecoderConfig, {"positions": "none", "count_padding": False}, "no effect where positions are none"),
    ],
)
def test_a_field_without_effect_cannot_be_written(cls: type[Config], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        cls.of(**BASES[cls] | fields)


@pytest.mark.parametrize("name", list_models())
def test_a_preset_can_be_given_any_positions_and_norm(name: str) -> None:
    """What it says of those it had is forgotten; what the user says of them is not."""
    cls = type(get_config(name))
    for field in ("positions", "norm"):
        for choice in set(choices(cls, field)) - {"none"}:
            for _, stack in get_config(name, **{field: choice}).stacks():
                assert getattr(stack, field).kind() == choice
    if cls is DecoderConfig:
        with pytest.raises(UserError, match=r"positions\.base: learned has no field 'base'"):
            get_config(name, positions="learned", **{"positions.base": 7.0})
