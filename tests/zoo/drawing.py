"""A configuration of a family drawn at random: by the names and types of the fields that transformers has for it."""

import dataclasses
import math
import re
from collections.abc import Callable
from random import Random
from typing import Any, NamedTuple

from transformers import AutoConfig

from transformer_zoo.config import EncoderConfig
from transformer_zoo.zoo.families import FAMILIES
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS, GENERIC_FIELDS

Fields = dict[str, Any]
RARE = 0.003
"""How often a field has a value that the family says it does not support."""
_WIDTHS = (23, 29, 31, 37, 41, 43)


class Shape(NamedTuple):
    """Numbers that several fields have to agree on."""

    d_model: int
    n_heads: int
    n_decoder_heads: int
    n_layers: int
    n_decoder_layers: int

    @classmethod
    def draw(cls, rng: Random, *, even: bool, decoder_heads: bool) -> "Shape":
        n_heads, n_decoder_heads = rng.randint(1, 5), rng.randint(1, 4)
        width = rng.choice((4, 6, 8, 10) if even else (3, 4, 5, 7, 8))
        d_model = width * (math.lcm(n_heads, n_decoder_heads) if decoder_heads else n_heads)
        return cls(max(d_model, 2), n_heads, n_decoder_heads, rng.randint(1, 4), rng.randint(1, 4))


Range = Callable[[Random, Shape], Any]


def _one_of(*values: Any) -> Range:
    return lambda rng, shape: rng.choice(values)


def _between(low: float, high: float) -> Range:
    return lambda rng, shape: rng.uniform(low, high)


def _divisor(rng: Random, shape: Shape) -> int:
    return rng.choice([n for n in range(1, shape.n_heads + 1) if shape.n_heads % n == 0])


def _eps(rng: Random, shape: Shape) -> float:
    return 10.0 ** rng.uniform(-6, -1)


def _rotation(rng: Random, shape: Shape) -> Fields:
    kind = rng.choice(("default", "linear", "llama3", "yarn"))
    if rng.random() < RARE:
        kind = "dynamic"
    original = {"original_max_position_embeddings": rng.randint(8, 40)}
    slower = {"factor": rng.uniform(1.0, 8.0)}
    low = rng.uniform(0.5, 2.0)
    of_kind: dict[str, Fields] = {
        "default": {},
        "linear": slower,
        "dynamic": slower,
        "llama3": {**slower, **original, "low_freq_factor": low, "high_freq_factor": low + rng.uniform(0.5, 3.0)},
        "yarn": {**slower, **original, **_ends_of_yarn(rng)},
    }
    return {"rope_type": kind, "rope_theta": 10.0 ** rng.uniform(1.5, 6.0), **of_kind[kind]}


def _ends_of_yarn(rng: Random) -> Fields:
    """Some of what may be left out."""
    every = {
        "beta_fast": rng.uniform(4.0, 32.0), "beta_slow": rng.uniform(0.5, 2.0), "truncate": rng.random() < 0.5,
        "attention_factor": rng.uniform(0.5, 2.0), "mscale": rng.uniform(0.5, 1.5), "mscale_all_dim": 0.7,
    }  # fmt: skip
    return {name: value for name, value in every.items() if rng.random() < 0.5}


def _activation(rng: Random, shape: Shape) -> str:
    return "laplace" if rng.random() < RARE else rng.choice(list(ACTIVATIONS))


def _windows(rng: Random, shape: Shape) -> list[str]:
    return [rng.choice(("full_attention", "sliding_attention")) for _ in range(shape.n_layers)]


def _width(rng: Random, shape: Shape) -> int:
    return rng.choice(_WIDTHS)


def _head(rng: Random) -> Fields:
    """ "head" is which class of theirs it is, no field."""
    labels = {str(i): f"label {i}" for i in range(rng.randint(1, 12))}
    problems = ["regression", "multi_label_classification"] + ["single_label_classification"] * (len(labels) > 1)
    return {
        "head": rng.choice(("words", "texts", "tokens")), "id2label": labels,
        "problem_type": rng.choice((None, *problems)),
    }  # fmt: skip


_LONGEST: Range = lambda rng, shape: rng.randint(37, 64)  # noqa: E731

RANGES: dict[str, Range] = {
    "vocab_size": _one_of(97, 101, 103, 107),
    "src_vocab_size": _one_of(97, 101, 103, 107),
    "hidden_size": lambda rng, shape: shape.d_model,
    "num_attention_heads": lambda rng, shape: shape.n_heads,
    "encoder_attention_heads": lambda rng, shape: shape.n_heads,
    "decoder_attention_heads": lambda rng, shape: shape.n_decoder_heads,
    "num_hidden_layers": lambda rng, shape: shape.n_layers,
    "encoder_layers": lambda rng, shape: shape.n_layers,
    "decoder_layers": lambda rng, shape: shape.n_decoder_layers,
    "num_decoder_layers": lambda rng, shape: shape.n_decoder_layers,
    "num_key_value_heads": _divisor,
    "head_dim": _one_of(4, 6, 10, 14),
    "max_position_embeddings": _LONGEST,
    "max_seq_len": _LONGEST,
    "n_positions": _LONGEST,
    **dict.fromkeys(("intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff"), _width),
    "hidden_dim": _width,
    "embedding_size": lambda rng, shape: rng.choice((11, shape.d_model)),
    "type_vocab_size": _one_of(1, 2, 3),
    "n_inner": _one_of(None, *_WIDTHS),
    "word_embed_proj_dim": lambda rng, shape: rng.choice((11, shape.d_model)),
    **dict.fromkeys(("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps"), _eps),
    **dict.fromkeys(("hidden_act", "hidden_activation", "activation_function", "activation"), _activation),
    "afn": _one_of("gelu", "relu", "silu", "swish"),
    "feed_forward_proj": lambda rng, shape: rng.choice(("", "gated-")) + rng.choice(("relu", "gelu", "silu", "mish")),
    "rope_parameters": _rotation,
    "sliding_window": _one_of(2, 3, 5),
    "window_size": _one_of(2, 3, 5),
    "local_attention": _one_of(2, 3, 5),
    "layer_types": _windows,
    "max_window_layers": lambda rng, shape: rng.randint(0, shape.n_layers),
    "query_pre_attn_scalar": _one_of(3, 8, 17),
    "attn_logit_softcapping": _one_of(None, 2.0, 5.0),
    "final_logit_softcapping": _one_of(None, 3.0, 7.0),
    "logit_scale": _between(0.1, 2.0),
    "no_rope_layers": lambda rng, shape: [rng.randint(0, 1) for _ in range(shape.n_layers)],
    "ffn_hidden_size": _one_of(None, *_WIDTHS),
    "embedding_multiplier": _between(0.5, 4.0),
    "attention_multiplier": _between(0.1, 1.0),
    "residual_multiplier": _between(0.2, 1.5),
    "logits_scaling": _between(0.5, 4.0),
    "clip_qkv": _one_of(None, 0.5, 1.5),
    "attn_config": lambda rng, shape: {
        "clip_qkv": rng.choice((None, 0.5, 1.5)), "softmax_scale": rng.choice((None, 0.2, 0.7)),
        "qk_ln": rng.random() < RARE,
    },
    "relative_attention_num_buckets": _one_of(4, 8, 12),
    "relative_attention_max_distance": _one_of(9, 13, 17),
    "kv_lora_rank": _one_of(3, 7, 11),
    "q_lora_rank": _one_of(None, 5, 13),
    "qk_rope_head_dim": _one_of(2, 4, 6),
    "qk_nope_head_dim": _one_of(3, 4, 7),
    "v_head_dim": _one_of(3, 5, 8),
    "num_local_experts": _one_of(2, 3, 4),
    "num_experts_per_tok": _one_of(1, 2),
    "classifier_pooling": _one_of("cls", "mean"),
    "pad_token_id": _one_of(0, 1, 2, 3),
    "eos_token_id": _one_of(4, 5, 6, 7),
    "bos_token_id": _one_of(8, 9, 10, 11),
    "decoder_start_token_id": _one_of(8, 9, 10, 11),
    "decoder_vocab_size": _one_of(None),
}  # fmt: skip
"""What a field can be, by its name or the one that transformers' other families have for it."""


def _gpt_neo(rng: Random, drawn: Fields) -> None:
    kinds = [rng.choice(("global", "local")) for _ in range(drawn["num_layers"])]
    drawn["attention_types"] = [[kinds, 1]]


def _marian(rng: Random, drawn: Fields) -> None:
    if not drawn["share_encoder_decoder_embeddings"]:
        drawn["decoder_vocab_size"] = rng.choice((89, drawn["vocab_size"]))


def _fsmt(rng: Random, drawn: Fields) -> None:
    if drawn["tie_word_embeddings"]:
        drawn["tgt_vocab_size"] = drawn["src_vocab_size"]


def _mixtral(rng: Random, drawn: Fields) -> None:
    """Its kernel takes multiples of 16 bytes."""
    drawn["intermediate_size"] = rng.choice((20, 24, 28))
    drawn["hidden_size"] = 4 * drawn["num_attention_heads"] * rng.choice((1, 2))


def _gemma3(rng: Random, drawn: Fields) -> None:
    kinds = ("full_attention", "sliding_attention")
    drawn["rope_parameters"] = {kind: _rotation(rng, Shape(4, 1, 1, 1, 1)) for kind in kinds}


def _deepseek(rng: Random, drawn: Fields) -> None:
    drawn["first_k_dense_replace"] = drawn["num_hidden_layers"] + rng.randint(0, 2)
    drawn["num_key_value_heads"] = drawn["num_attention_heads"]
    _default(rng, drawn)


def _default(rng: Random, drawn: Fields) -> None:
    """Frequencies as they are."""
    drawn["rope_parameters"] = {"rope_type": "default", "rope_theta": drawn["rope_parameters"]["rope_theta"]}


def _phi3(rng: Random, drawn: Fields) -> None:
    _default(rng, drawn)
    _partial(rng, drawn)


def _nanochat(rng: Random, drawn: Fields) -> None:
    if drawn["rope_parameters"]["rope_type"] == "yarn":
        _default(rng, drawn)


def _apertus(rng: Random, drawn: Fields) -> None:
    """Its own activation, or another."""
    if rng.random() < 0.5:
        drawn["hidden_act"] = "xielu"


def _qwen(rng: Random, drawn: Fields) -> None:
    """A window is none where it is not used, and its layers are those from one on, or listed."""
    if not drawn["use_sliding_window"] or rng.random() < 0.5:
        drawn["layer_types"] = None


def _exaone4(rng: Random, drawn: Fields) -> None:
    """Every layer has positions if none has a window."""
    if rng.random() < 0.3:
        drawn |= {"sliding_window": None, "layer_types": ["full_attention"] * drawn["num_hidden_layers"]}


def _gptj(rng: Random, drawn: Fields) -> None:
    drawn["rotary_dim"] = rng.choice(range(2, drawn["n_embd"] // drawn["n_head"] + 1, 2))


def _codegen(rng: Random, drawn: Fields) -> None:
    drawn["n_head"] = rng.choice((4, 8))
    drawn["n_embd"] = drawn["n_head"] * rng.choice((3, 4, 6))
    _gptj(rng, drawn)


def _falcon(rng: Random, drawn: Fields) -> None:
    """One of the two layouts."""
    n_heads = drawn["num_attention_heads"]
    few = [n for n in range(1, n_heads + 1) if n_heads % n == 0]
    is_new = drawn["new_decoder_architecture"]
    drawn["parallel_attn"] |= is_new
    drawn["num_kv_heads"] = rng.choice(few) if is_new else None
    drawn["num_ln_in_parallel_attn"] = rng.choice((None, 1, 2)) if is_new else None


def _hunyuan(rng: Random, drawn: Fields) -> None:
    """A larger base, as in the published models."""
    if rng.random() < 0.4:
        drawn["rope_parameters"] = {"rope_type": "dynamic", "rope_theta": 100.0, "alpha": rng.uniform(2.0, 99.0)}
        drawn["rope_parameters"]["factor"] = 1.0


def _helium(rng: Random, drawn: Fields) -> None:
    drawn["head_dim"] = drawn["hidden_size"] // drawn["num_attention_heads"]


def _partial(rng: Random, drawn: Fields) -> None:
    """Rotation of a part of a head. Yarn needs two pairs of dimensions, transformers' StableLM an even number of
    them."""
    width, rope = drawn.get("head_dim"), drawn["rope_parameters"]
    width = width or drawn["hidden_size"] // drawn["num_attention_heads"]
    fits = range(4 if rope["rope_type"] == "yarn" else 2, width + 1, 2)
    rope["partial_rotary_factor"] = (rng.choice(fits) + 0.01) / width


TOGETHER: dict[str, Callable[[Random, Fields], None]] = {
    "gpt_neo": _gpt_neo, "marian": _marian, "mixtral": _mixtral, "gemma3_text": _gemma3,
    "deepseek_v3": _deepseek, "modernbert": _gemma3, "apertus": _apertus,
    "fsmt": _fsmt, "helium": _helium, "qwen2": _qwen, "qwen3": _qwen, "gpt_neox": _partial, "stablelm": _partial,
    "phi3": _phi3, "nanochat": _nanochat, "olmo3": _gemma3, "smollm3": _qwen, "exaone4": _exaone4, "glm": _partial,
    "glm4": _partial, "phi": _partial, "nemotron": _partial, "gptj": _gptj, "codegen": _codegen, "falcon": _falcon,
    "hunyuan_v1_dense": _hunyuan,
}  # fmt: skip
"""Fields of a family that depend on each other in a way of its own."""

_SAME = re.compile(r"dropout|pdrop|layerdrop|init_std|is_encoder_decoder|is_decoder|cross_attention|forced_|_version")
"""What changes no logit, or makes another kind of model."""


def drawn_fields(kind: str) -> list[str]:
    """The names of what is drawn for a family: what its class declares, and what else its models read."""
    declared = [field.name for field in dataclasses.fields(type(AutoConfig.for_model(kind)))]
    read = [entry.name for entry in FAMILIES[kind].fields.values()]
    names = dict.fromkeys([*declared, *read, *(["tie_word_embeddings"] if kind == "t5" else [])])
    left = GENERIC_FIELDS.union(FAMILIES[kind].ignored)
    return [name for name in names if name not in left and not _SAME.search(name)]


def draw(kind: str, rng: Random) -> Fields:
    """The fields of one configuration."""
    default = AutoConfig.for_model(kind)
    names = drawn_fields(kind)
    same_as = {ours: theirs for theirs, ours in (getattr(default, "attribute_map", None) or {}).items()}
    shape = Shape.draw(rng, even="rope_parameters" in names, decoder_heads="decoder_attention_heads" in names)
    drawn: Fields = {}
    for name in names:
        usual, known = getattr(default, name, None), RANGES.get(name) or RANGES.get(same_as.get(name, ""))
        if name in FAMILIES[kind].required:
            drawn[name] = not usual if isinstance(usual, bool) and rng.random() < RARE else usual
        elif known is not None:
            drawn[name] = known(rng, shape)
        else:
            drawn[name] = rng.random() < 0.5 if isinstance(usual, bool) else usual
    if FAMILIES[kind].config is EncoderConfig:
        drawn |= _head(rng)
    if kind in TOGETHER:
        TOGETHER[kind](rng, drawn)
    return drawn
