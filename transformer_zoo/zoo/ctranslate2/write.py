"""The weights of a model under the names of CTranslate2's specification, and its files."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ctranslate2 import specs
from ctranslate2.specs import attention_spec, common_spec, model_spec, transformer_spec
from numpy.typing import NDArray
from torch import Tensor, nn

from transformer_zoo.blocks.rotary import RotaryPositions
from transformer_zoo.config import ModelConfig, StackSpec
from transformer_zoo.models import DecoderOnly, EncoderDecoder, EncoderOnly
from transformer_zoo.zoo.ctranslate2.said import ACTIVATIONS

_NEVER = -1e4
"""Added to the logit of a token that is not written, and to a score that does not count. All its types have this
number.
"""


@torch.no_grad()
def to_ctranslate2(
    model: EncoderDecoder | DecoderOnly | EncoderOnly,
    folder: Path,
    tokens: Sequence[Sequence[str]],
    *,
    quantization: str | None = None,
) -> list[list[str]]:
    """Write what `ctranslate2.Translator`, `Generator` or `Encoder` loads; returns its vocabularies, in the order of
    the ids.

    Tokens that the model never writes have almost no probability there. Texts without an end token get one, which is
    never written either. An encoder alone gives its hidden states.

    Args:
        model: a model whose configuration passes `check_ctranslate2`.
        folder: an existing folder.
        tokens: names of the ids of the source and of the target, or of those of a text; names that are equal or "" are
            replaced.
        quantization: of the weights; None: unchanged.
    """
    config: Any = model.config
    spare = int(getattr(config, "eos_id", 0) is None)
    names = [_unlike([*side, *["</s>"] * spare]) for side in tokens]
    made = _writer(model, names, spare) if hasattr(model, "facts") else _encoder_alone(model, names[0])
    # A vocabulary without a token for unknown text has everything; CTranslate2 needs such a token nevertheless.
    made.config.unk_token = "<unk>" if all("<unk>" in side for side in names) else made.config.eos_token
    made.config.layer_norm_epsilon = next(stack.norm.eps for _, stack in config.stacks())
    made.validate()
    made.optimize(quantization=quantization)
    made.save(str(folder))
    return names


def _encoder_alone(model: Any, names: list[str]) -> Any:
    made = specs.TransformerEncoderModelSpec(_encoder(model))
    made.register_vocabulary(names)
    made.config.bos_token = made.config.eos_token = names[model.config.pad_id]  # neither is put around a text
    return made


def _writer(model: Any, names: list[list[str]], spare: int) -> Any:
    """The specification of a model that translates or writes texts."""
    config, target, decoder = model.config, names[-1], _decoder(model, spare)
    if model.facts.has_source:
        made = specs.TransformerSpec(_encoder(model), decoder)
        made.register_source_vocabulary(names[0])
        made.register_target_vocabulary(target)
        made.config.decoder_start_token = target[config.bos_id]
    else:
        made = specs.TransformerDecoderModelSpec(decoder)
        made.register_vocabulary(target)
    made.config.eos_token = target[-1 if spare else config.eos_id]
    made.config.bos_token = made.config.eos_token if config.bos_id is None else target[config.bos_id]
    return made


def _unlike(tokens: Sequence[str]) -> list[str]:
    """The tokens, each with a name of its own."""
    named, taken = dict[str, None](), {*tokens}
    spare = (name for i in count() if (name := f"<{i}>") not in taken)
    for token in tokens:
        named[next(spare) if token in named or not token else token] = None
    return list(named)


def _encoder(model: Any) -> Any:
    spec = model.config.encoder
    embeddings = [model.embedding or model.source_embedding]
    if (segments := getattr(model, "segments", None)) is not None:
        embeddings.append(segments)
    made = transformer_spec.TransformerEncoderSpec(
        0,
        spec.layers[0].attention.n_heads,
        num_source_embeddings=len(embeddings),
        embeddings_merge=common_spec.EmbeddingsMerge.ADD,
        **_around(spec),
    )
    _fill_stack(made, model.encoder, spec, model.config)
    scale = float(embeddings[0].scale)  # of the sum
    for part, embedding in zip(made.embeddings, embeddings, strict=True):
        part.weight = _array(embedding.weight * (embedding.scale / scale))
    made.scale_embeddings = scale
    return made


def _decoder(model: Any, spare: int) -> Any:
    """spare: tokens beyond the vocabulary that are not written."""
    config, spec = model.config, model.config.decoder
    n_heads, n_tokens = spec.layers[0].attention.n_heads, model.facts.vocab_size
    made = transformer_spec.TransformerDecoderSpec(
        0,
        n_heads,
        alibi=spec.positions is not None and spec.positions.kind() == "alibi",
        project_in_out=getattr(config, "d_embedding", None) is not None,
        with_encoder_attention=model.facts.has_source,
        num_heads_kv=n_heads,
        **_around(spec),
    )
    _fill_stack(made, model.decoder, spec, config)
    embedding = model.embedding or model.target_embedding
    made.embeddings.weight = _array(F.pad(embedding.weight[:n_tokens], (0, 0, 0, spare)))
    made.scale_embeddings = float(embedding.scale)
    made.projection.weight = _array(F.pad(model.head_weight[:n_tokens], (0, 0, 0, spare)))
    if (projection := getattr(model, "embedding_in", None)) is not None:
        _fill_linear(made.project_in, projection)
        _fill_linear(made.project_out, model.embedding_out)
    if (cap := getattr(config, "logit_softcap", None)) is not None:
        made.final_logit_softcapping = float(cap)
    constant = getattr(model, "logit_bias", None)
    bias = torch.zeros(n_tokens) if constant is None else constant.detach()[:n_tokens].float().cpu().clone()
    bias[list(model.facts.never)] = _NEVER
    bias = F.pad(bias, (0, spare), value=_NEVER)
    if bias.any():
        made.projection.bias = _array(bias)
    if config.logit_factor != 1:
        made.scale_outputs = float(config.logit_factor)
    return made


def _around(spec: StackSpec) -> dict[str, Any]:
    """The parts around the layers. A norm at the end does not depend on the position of the other norms."""
    ffn: Any = spec.layers[0].ffn
    return {
        "no_final_norm": not spec.ends_in_norm,
        "layernorm_embedding": spec.embedding_norm,
        "activation": common_spec.Activation[ACTIVATIONS[ffn.activation]],
        "relative_attention_bias": spec.positions is not None and spec.positions.kind() == "relative",
    }


def _fill_stack(made: Any, stack: Any, spec: StackSpec, config: ModelConfig) -> None:
    made.pre_norm = spec.norm_position != "post"
    if spec.ends_in_norm:
        made.layer_norm = _norm(stack.final_norm)
    if spec.embedding_norm:
        made.layernorm_embedding = _norm(stack.embedding_norm)
    positions = spec.positions
    if positions is not None and positions.added:
        n = config.max_seq_len * (1 if positions.bounded else 2)  # it must have a bound, even without one of its own
        made.position_encodings.encodings = _array(stack.positions(n))
    elif hasattr(made, "position_encodings") and stack.layers[0].attn.rotary is None:
        # If it has no positions and the first layer does not rotate, it adds its own.
        made.position_encodings.encodings = np.zeros((2 * config.max_seq_len, config.d_model), np.float32)
    made.layer = [_layer(layer, stack.positions) for layer in stack.layers]


def _layer(layer: Any, bias: Any) -> Any:
    has_memory, position = layer.cross_attn is not None, layer.norm_position
    squared = layer.ffn.activation.__name__ == "relu_squared"
    how = {"ffn_glu": layer.ffn.gate_proj is not None or squared, "pre_post_layer_norm": position == "both"}
    if layer.is_causal:
        kind, how["with_encoder_attention"] = transformer_spec.TransformerDecoderLayerSpec, has_memory
        how |= {"parallel_residual": "parallel" in position, "shared_layer_norm": position == "parallel_shared"}
    else:
        kind = transformer_spec.TransformerEncoderLayerSpec
    made, scale = kind(**how), layer.residual_scale
    inner = position in ("post", "pre")  # then each sublayer has its norm
    made.self_attention = _attention(layer.attn, layer.attn_norm if inner else None, scale, bias=bias)
    if has_memory:
        made.attention = _attention(layer.cross_attn, layer.cross_attn_norm, scale, has_memory=True)
    _fill_linear(made.ffn.linear_0, layer.ffn.gate_proj or layer.ffn.up_proj)
    if how["ffn_glu"]:
        _fill_linear(made.ffn.linear_0_noact, layer.ffn.up_proj)
    _fill_linear(made.ffn.linear_1, layer.ffn.down_proj, times=scale)
    if inner:
        made.ffn.layer_norm = _norm(layer.ffn_norm)
    elif position == "parallel_shared":
        made.shared_layer_norm = _norm(layer.attn_norm)
    elif position == "parallel":
        made.input_layer_norm, made.post_attention_layer_norm = _norm(layer.attn_norm), _norm(layer.ffn_norm)
    else:
        made.input_layer_norm, made.post_attention_layer_norm = _norm(layer.attn_norm), _norm(layer.attn_out_norm)
        made.pre_feedforward_layer_norm = _norm(layer.ffn_norm)
        made.post_feedforward_layer_norm = _norm(layer.ffn_out_norm)
    return made


def _attention(attn: Any, norm: Any, times: float, *, bias: Any = None, has_memory: bool = False) -> Any:
    """times: factor of its output. bias: gives the scores of a stack, which may be learned by distance."""
    is_learned, has_window = hasattr(bias, "buckets"), attn.window is not None
    made = attention_spec.MultiHeadAttentionSpec(
        self_attention=not has_memory,
        has_norm=norm is not None,
        relative_position=has_window,
        relative_attention_bias=is_learned,
        num_heads_kv=attn.n_kv_heads,
        head_dim=attn.head_dim + has_window,
        qk_norm=attn.q_norm is not None,
        **_turned_by(attn.rotary),
    )
    if norm is not None:
        made.layer_norm = _norm(norm)
    if attn.q_norm is not None:
        made.q_norm, made.k_norm = _norm(attn.q_norm), _norm(attn.k_norm)
    if is_learned:
        made.relative_attention_bias = _array(bias.weight)
        made.relative_attention_max_distance = np.int32(bias.max_distance)
    scale = attn.head_dim**-0.5 if attn.scale is None else attn.scale
    if (scaling := getattr(attn.rotary, "scaling", None)) is not None:
        slower = attn.rotary.frequencies(scaled=False) / attn.rotary.frequencies()
        made.rotary_scaling_long_factor = made.rotary_scaling_short_factor = _array(slower)
        scale *= getattr(scaling, "growth", 1.0) ** 2
    made.queries_scale = float(scale)
    projections = [attn.q_proj, attn.k_proj, attn.v_proj, attn.out_proj]
    if has_window:
        made.relative_position_keys, made.relative_position_values = _window(attn), model_spec.OPTIONAL
        projections = _with_a_constant(attn, 1 / scale)
    *inner, out = projections
    for linear, parts in zip(made.linear, (inner[:1], inner[1:]) if has_memory else (inner,), strict=False):
        _fill_linear(linear, *parts)
    _fill_linear(made.linear[-1], out, times=times)
    return made


def _turned_by(rotary: RotaryPositions | None) -> dict[str, Any]:
    if rotary is None:
        return {}
    how = {"rotary_dim": rotary.dim, "rotary_interleave": rotary.layout == "interleaved", "rotary_base": rotary.base}
    return how if rotary.scaling is None else {**how, "rotary_scaling_type": attention_spec.RotaryScalingType.Su}


def _window(attn: Any) -> NDArray[np.float32]:
    """The vector for each distance of keys, -window to window, where both ends stand for everything beyond (Shaw et al.
    2018, equation 4). The last dimension of a query times this is 0 in the window, and almost -inf outside.

    CTranslate2's own window applies to its cache only: tokens that it reads at once see all of each other.
    """
    table = torch.zeros(2 * attn.window + 1, attn.head_dim + 1)
    table[[0, -1], -1] = _NEVER
    return _array(table)


def _with_a_constant(attn: Any, value: float) -> list[nn.Linear]:
    """The projections of heads with one more dimension, which is `value` in queries and 0 in keys and values."""
    made = []
    for projection, constant in ((attn.q_proj, value), (attn.k_proj, 0.0), (attn.v_proj, 0.0)):
        wider = nn.Linear(1, 1)
        heads = projection.weight.unflatten(0, (-1, attn.head_dim))  # (H, Dh, D)
        wider.weight = nn.Parameter(F.pad(heads, (0, 0, 0, 1)).flatten(0, 1))
        bias = heads.new_zeros(heads.shape[:2]) if projection.bias is None else projection.bias.view(heads.shape[:2])
        wider.bias = nn.Parameter(F.pad(bias, (0, 1), value=constant).flatten())
        made.append(wider)
    out = nn.Linear(1, 1)
    out.weight = nn.Parameter(F.pad(attn.out_proj.weight.unflatten(1, (-1, attn.head_dim)), (0, 1)).flatten(1))
    out.bias = attn.out_proj.bias
    return [*made, out]


def _fill_linear(made: Any, *projections: Any, times: float = 1.0) -> None:
    """One matrix made of several, one below the other; its output is multiplied."""
    made.weight = _array(times * torch.cat([part.weight for part in projections]))
    if any(part.bias is not None for part in projections):
        biases = [part.weight.new_zeros(len(part.weight)) if part.bias is None else part.bias for part in projections]
        made.bias = _array(times * torch.cat(biases))


def _norm(norm: Any) -> Any:
    centres = hasattr(norm, "bias")  # which may be None
    made = common_spec.LayerNormSpec(rms_norm=not centres)
    weight = torch.ones(norm.normalized_shape) if norm.weight is None else norm.weight
    made.gamma = _array(1 + weight if getattr(norm, "unit_offset", False) else weight)
    if centres:
        made.beta = _array(torch.zeros_like(weight) if norm.bias is None else norm.bias)
    return made


def _array(tensor: Tensor) -> NDArray[np.float32]:
    """A copy, because quantising writes in place."""
    copied: NDArray[np.float32] = tensor.detach().float().cpu().numpy().copy()
    return copied
