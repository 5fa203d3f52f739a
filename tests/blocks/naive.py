"""What the blocks are compared with: formulas written out, and torch's Transformer with the same weights."""

import torch
from torch import Tensor, nn

from transformer_zoo.blocks import Attention, DecoderLayer, EncoderLayer

# A weight of ours: torch's weight, and which rows of it.
Pairs = dict[nn.Parameter, tuple[nn.Parameter, slice]]


def naive_weights(
    queries: Tensor,
    keys: Tensor,
    *,
    mask: Tensor | None = None,
    bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """The attention weights in float64, head by head: query head h reads key head h // (H / Hkv)."""
    n_queries, n_keys, group = queries.size(2), keys.size(2), queries.size(1) // keys.size(1)
    scale = queries.size(3) ** -0.5 if scale is None else scale
    heads = [queries[:, h].double() @ keys[:, h // group].double().mT for h in range(queries.size(1))]
    scores = torch.stack(heads, dim=1) * scale  # (B, H, Tq, Tk)
    if bias is not None:
        scores = scores + bias.double()
    allowed = torch.ones(scores.shape, dtype=torch.float64)
    if mask is not None:
        allowed = allowed * mask.expand(queries.size(0), queries.size(1), n_queries, n_keys)
    exponentials = (scores - scores.detach().amax(-1, keepdim=True)).exp() * allowed
    total = exponentials.sum(-1, keepdim=True)
    return torch.where(total > 0, exponentials / total.clamp_min(1e-300), 0)


def naive_attention(queries: Tensor, keys: Tensor, values: Tensor, **options: Tensor | float | None) -> Tensor:
    """Equation 1 in float64 with all that may be added to it; a query that may see nothing gives zeros."""
    weights = naive_weights(queries, keys, **options)  # type: ignore[arg-type]
    group = queries.size(1) // values.size(1)
    return torch.stack([weights[:, h] @ values[:, h // group].double() for h in range(queries.size(1))], dim=1)


def heads_of(x: Tensor, head_dim: int) -> Tensor:
    """(B, T, H * Dh) -> (B, H, T, Dh), one slice a head."""
    return torch.stack(x.split(head_dim, dim=-1), dim=1)


def _linear(ours: nn.Linear, theirs: nn.Linear) -> Pairs:
    assert ours.bias is not None
    everything = slice(None)
    return {ours.weight: (theirs.weight, everything), ours.bias: (theirs.bias, everything)}


def attention_pairs(ours: Attention, theirs: nn.MultiheadAttention) -> Pairs:
    """Each weight of ours with the rows of torch's that it corresponds to."""
    width = theirs.embed_dim
    pairs = _linear(ours.out_proj, theirs.out_proj)
    for i, name in enumerate("qkv"):
        proj, rows = getattr(ours, f"{name}_proj"), slice(i * width, (i + 1) * width)
        pairs[proj.bias] = (theirs.in_proj_bias, rows)
        if theirs.in_proj_weight is None:
            pairs[proj.weight] = (getattr(theirs, f"{name}_proj_weight"), slice(None))
        else:
            pairs[proj.weight] = (theirs.in_proj_weight, rows)
    return pairs


def layer_pairs(
    ours: EncoderLayer | DecoderLayer, theirs: nn.TransformerEncoderLayer | nn.TransformerDecoderLayer
) -> Pairs:
    """The same for a layer; in a decoder's, the second of torch's norms is the cross-attention's."""
    pairs = attention_pairs(ours.attn, theirs.self_attn)
    pairs |= _linear(ours.ffn.up_proj, theirs.linear1) | _linear(ours.ffn.down_proj, theirs.linear2)
    norms = [ours.attn_norm, ours.ffn_norm]
    if isinstance(ours, DecoderLayer):
        assert ours.cross_attn is not None
        pairs |= attention_pairs(ours.cross_attn, theirs.multihead_attn)
        norms.insert(1, ours.cross_attn_norm)
    for i, norm in enumerate(norms, start=1):
        pairs |= _linear(norm, getattr(theirs, f"norm{i}"))
    return pairs


def copy_from(pairs: Pairs) -> None:
    """Make torch's weights random, as zero biases and unit norms would hide a mistake, and copy them."""
    with torch.no_grad():
        for theirs in {id(p): p for p, _ in pairs.values()}.values():
            theirs.copy_(torch.randn_like(theirs) * 0.3 + (theirs.dim() == 1))
        for ours, (theirs, rows) in pairs.items():
            ours.copy_(theirs[rows])


def assert_same_gradients(pairs: Pairs, tolerance: float = 1e-5) -> None:
    """Every weight of ours has the gradient of torch's."""
    for ours, (theirs, rows) in pairs.items():
        assert ours.grad is not None
        assert theirs.grad is not None
        torch.testing.assert_close(ours.grad, theirs.grad[rows], rtol=tolerance, atol=tolerance)
