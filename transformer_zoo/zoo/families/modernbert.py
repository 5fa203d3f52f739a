"""ModernBERT: every third layer sees all tokens, the others see near ones; each kind has its own rotation."""

from dataclasses import replace
from typing import Any

from transformer_zoo.config import EncoderConfig, LayerNormSpec, ProjectionSpec, RotarySpec, TextsSpec, WordsSpec
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.huggingface.common import ACTIVATIONS
from transformer_zoo.zoo.huggingface.family import Family, Field, Fields, Part, Weight, layers
from transformer_zoo.zoo.huggingface.heads import heads
from transformer_zoo.zoo.huggingface.parts import TEXT_ONLY, read_windows
from transformer_zoo.zoo.huggingface.rope import read_rope, write_scaling

_BASES = {"full_attention": 160000.0, "sliding_attention": 10000.0}
_OLD = {"full_attention": "global_rope_theta", "sliding_attention": "local_rope_theta"}


def _read_layers(theirs: Fields, ours: Fields) -> dict[str, Any]:
    each = theirs.get("global_attn_every_n_layers", 3)
    types = theirs.get("layer_types") or [
        "sliding_attention" if i % each else "full_attention" for i in range(ours["n_layers"])
    ]
    found = read_windows(types, theirs.get("local_attention", 128) // 2 + 1, ours["n_layers"])
    bases = {kind: {"rope_theta": theirs.get(old, _BASES[kind])} for kind, old in _OLD.items()}
    ropes = theirs.get("rope_parameters") or bases
    if not {*types} <= ropes.keys() <= _BASES.keys():
        raise UserError(f"config.json: rope_parameters has {', '.join(ropes)}, expected {', '.join(_BASES)}")
    rotary = {kind: read_rope({**bases[kind], **rope, "truncate": True}, ours) for kind, rope in ropes.items()}
    usual = rotary.get("full_attention", rotary[types[0]])
    for layer, kind in zip(found["layer"], types, strict=True):
        layer["positions"] = "stack" if rotary[kind] == usual else rotary[kind]
    found["layer"][0]["attention_norm"] = False
    return {**found, "positions": usual}


def _write_layers(config: EncoderConfig) -> dict[str, Any]:
    stack, ropes = config.encoder, {}
    windows = [layer.attention.window for layer in stack.layers]
    types = ["full_attention" if window is None else "sliding_attention" for window in windows]
    for kind, rotary in zip(types, map(stack.positions_of, stack.layers), strict=True):
        if isinstance(rotary, RotarySpec):
            scaling = write_scaling(rotary.scaling) or {"rope_type": "default"}
            ropes[kind] = {"rope_theta": rotary.base, **scaling}
    for kind, base in _BASES.items():
        ropes.setdefault(kind, {"rope_type": "default", "rope_theta": base})
    near = next((2 * (window - 1) for window in windows if window is not None), 128)
    return {"layer_types": types, "local_attention": near, "rope_parameters": ropes}


_ACTIVATION = Field("classifier_activation", "gelu", ACTIVATIONS)
_POOLING = Field("classifier_pooling", "cls", {"cls": "first", "mean": "mean"})
_HEADS = ("word_head", "text_head.projection", "token_head.projection")


def _read_projection(theirs: Fields, ours: Fields) -> dict[str, Any]:
    """All heads have this projection, with a norm; the head for words has the norm of the layers anyway."""
    head, how = ours["head"], {"activation": _ACTIVATION.read(theirs), "bias": theirs.get("classifier_bias", False)}
    if head is None:
        return {}
    if isinstance(head, WordsSpec):
        return {"head": replace(head, **how)}
    norm = LayerNormSpec(eps=ours["norm.eps"], learned=ours["norm.learned"])
    pooling = {"pooling": _POOLING.read(theirs)} if isinstance(head, TextsSpec) else {}
    return {"head": replace(head, projection=ProjectionSpec(**how, norm=norm), **pooling)}


def _write_projection(config: EncoderConfig) -> dict[str, Any]:
    head = config.head
    how: Any = head if isinstance(head, WordsSpec) else getattr(head, "projection", None)
    written = {} if how is None else {**_ACTIVATION.write(how.activation), "classifier_bias": how.bias}
    return {**written, **(_POOLING.write(head.pooling) if isinstance(head, TextsSpec) else {})}


def _size(n_layers: int, d_model: int, n_heads: int, d_ff: int) -> dict[str, Any]:
    """Warner et al. 2024, "Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder", Table 4."""
    near = {"attention": {"window": 65}, "positions": RotarySpec()}
    kinds = [{**(near if i % 3 else {}), "attention_norm": i > 0} for i in range(n_layers)]
    shape = {"n_layers": n_layers, "d_model": d_model, "n_heads": n_heads, "d_ff": d_ff, "max_seq_len": 8192}
    ids = {"vocab_size": 50368, "pad_id": 50283, "mask_id": 50284}
    return {**shape, **ids, "bias": False, "positions.base": 160000.0, "layer": kinds, "head.bias": False}


MODERNBERT = Family(
    model_type="modernbert",
    architecture="ModernBertForMaskedLM",
    config=EncoderConfig,
    constants={
        "norm_position": "pre", "embedding_norm": True, "gated": True, "dropout": 0.0, "attention_dropout": 0.0,
        "positions": RotarySpec(), "norm": LayerNormSpec(learned="weight"),
    },
    sizes={"modernbert-base": _size(22, 768, 12, 1152), "modernbert-large": _size(28, 1024, 16, 2624)},
    fields={
        "vocab_size": Field("vocab_size", 50368),
        "d_model": Field("hidden_size", 768),
        "n_heads": Field("num_attention_heads", 12),
        "n_layers": Field("num_hidden_layers", 22),
        "d_ff": Field("intermediate_size", 1152),
        "max_seq_len": Field("max_position_embeddings", 8192),
        "activation": Field("hidden_activation", "gelu", ACTIVATIONS),
        "norm.eps": Field("norm_eps", 1e-5),
        "norm.learned": Field("norm_bias", False, {False: "weight", True: "weight and bias"}),
        "attention.bias": Field("attention_bias", False),
        "ffn.bias": Field("mlp_bias", False),
        "ffn.dropout": Field("mlp_dropout", 0.0),
        "pad_id": Field("pad_token_id", 50283),
        "tie_embeddings": Field("tie_word_embeddings", True),
        "attention_dropout": Field("attention_dropout", 0.0),
    },
    parts=(
        heads("ModernBert"),
        Part(
            {"classifier_activation": str, "classifier_bias": bool, "classifier_pooling": str},
            _read_projection,
            _write_projection,
            limits=("classifier_activation", "classifier_pooling"),
        ),
        Part(
            {
                "layer_types": list, "local_attention": int, "global_attn_every_n_layers": int,
                "rope_parameters": dict, "global_rope_theta": float, "local_rope_theta": float,
            },
            _read_layers,
            _write_layers,
            limits=("rope_type",),
        ),
    ),
    required={**TEXT_ONLY, "decoder_bias": (True,)},
    ignored=(
        "bos_token_id", "eos_token_id", "deterministic_flash_attn", "embedding_dropout",
        "initializer_cutoff_factor", "position_embedding_type", "reference_compile", "repad_logits_with_grad",
        "sparse_prediction", "sparse_pred_ignore_index", "layer_norm_eps",
    ),
    weights={
        "embedding": "model.embeddings.tok_embeddings",
        "encoder.embedding_norm": "model.embeddings.norm",
        **layers(
            "encoder.layers.{i}",
            "model.layers.{i}",
            {
                "attn_norm": "attn_norm",
                **{f"attn.{name}_proj": Weight("attn.Wqkv", part=i) for i, name in enumerate("qkv")},
                "attn.out_proj": "attn.Wo",
                "ffn_norm": "mlp_norm",
                "ffn.gate_proj": Weight("mlp.Wi", part=0),
                "ffn.up_proj": Weight("mlp.Wi", part=1),
                "ffn.down_proj": "mlp.Wo",
            },
        ),
        "encoder.final_norm": "model.final_norm",
        **{f"{head}.proj": "head.dense" for head in _HEADS},
        **{f"{head}.norm": "head.norm" for head in _HEADS},
        "head": "decoder",
        "logit_bias": "decoder.bias",
        "text_head.out_proj": "classifier",
        "token_head.out_proj": "classifier",
    },
    prefix="model.",
)  # fmt: skip
"""Warner et al. 2024."""

FAMILIES = (MODERNBERT,)
