"""What an architecture is made of, in figures: counted on a model without memory."""

from collections import Counter
from dataclasses import dataclass

import torch
from torch import nn

from transformer_zoo.config import DecoderConfig, EncoderDecoderConfig
from transformer_zoo.models import DecoderOnly, EncoderDecoder
from transformer_zoo.models.flops import forward_flops
from transformer_zoo.zoo import build
from transformer_zoo.zoo.empty import uninitialised

PARTS = {
    "attn": "self-attention", "cross_attn": "cross-attention", "ffn": "feed-forward", "attn_norm": "norms",
    "cross_attn_norm": "norms", "ffn_norm": "norms", "attn_out_norm": "norms", "cross_attn_out_norm": "norms",
    "ffn_out_norm": "norms",
}  # fmt: skip
OUTSIDE = {
    "embedding": "token embedding", "source_embedding": "source embedding", "target_embedding": "target embedding",
    "ngram_embedding": "n-gram embedding", "embedding_in": "embedding to d_model",
    "embedding_out": "d_model to embedding", "embedding_norm": "embedding norm", "positions": "position embedding",
    "final_norm": "final norm", "head": "head",
}  # fmt: skip


@dataclass(frozen=True)
class Description:
    """Figures of one architecture.

    parameters: (part, number), where a layer stands for all of its stack; they are of the whole model but for what is
    said to be of one layer. forward_flops: operations per token, None for an encoder-decoder, whose two sides differ.
    weight_bytes and cache_bytes: of the weights, and of keys and values of a text of `context` tokens (an
    encoder-decoder: of as many target tokens, and of as many source tokens). The cache keeps all of them, in layers
    with a sliding window too.
    """

    parameters: list[tuple[str, int]]
    total: int
    context: int
    forward_flops: int | None
    weight_bytes: int
    cache_bytes: int


def outline(config: EncoderDecoderConfig | DecoderConfig) -> EncoderDecoder | DecoderOnly:
    """The model of a configuration without its weights' memory: names and shapes, on the meta device."""
    with uninitialised("meta", torch.get_default_dtype()):
        return build(config)


def describe(
    config: EncoderDecoderConfig | DecoderConfig, *, context: int | None = None, dtype: torch.dtype = torch.float32
) -> Description:
    """Figures of a configuration. context: tokens of a text; None: `max_seq_len`."""
    model = outline(config)
    context = config.max_seq_len if context is None else context
    total = sum(p.numel() for p in model.parameters())
    if isinstance(config, EncoderDecoderConfig):
        cached_layers = 2 * config.n_decoder_layers  # self- and cross-attention
        n_heads = config.n_decoder_heads or config.n_heads
    else:
        cached_layers, n_heads = config.n_layers, config.n_heads
    head_dim = config.head_dim or config.d_model // n_heads
    kept = 2 * cached_layers * (config.n_kv_heads or n_heads) * head_dim * context
    return Description(
        parameters=_parts(model),
        total=total,
        context=context,
        forward_flops=forward_flops(model, context) if isinstance(model, DecoderOnly) else None,
        weight_bytes=total * dtype.itemsize,
        cache_bytes=kept * dtype.itemsize,
    )


def _parts(model: nn.Module) -> list[tuple[str, int]]:
    """Each part's name and parameters; of a stack's layers, which are alike, the first is counted in parts."""
    counts: Counter[str] = Counter()
    two_stacks = hasattr(model, "encoder")
    for name, weight in model.named_parameters():
        words = name.split(".")
        if "layers" in words:
            stack, number, part = words[0], int(words[2]), words[3]
            counts[f"{stack} layers"] += weight.numel()
            if number == 0:
                counts[f"  one {stack + ' ' if two_stacks else ''}layer's {PARTS[part]}"] += weight.numel()
        else:
            counts[_outside(words)] += weight.numel()
    return list(counts.items())


def _outside(words: list[str]) -> str:
    """What is not in a layer."""
    name = OUTSIDE[words[-2]]
    return f"{words[0]} {name}" if words[0] in ("encoder", "decoder") else name
