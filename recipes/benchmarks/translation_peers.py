"""The benchmark's peers: other people's implementations of the same model, with the same weights.

They compute what `EncoderDecoder` computes (tests/recipes/test_benchmark.py), so only the time may differ.
The model is post-norm, with relu, one shared vocabulary and sinusoids in "halves": what all three have.
"""

from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from transformer_zoo.blocks.positions import sinusoids
from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.config.changes import value_at
from transformer_zoo.errors import UserError
from transformer_zoo.models import EncoderDecoder
from transformer_zoo.zoo.huggingface import to_huggingface

if TYPE_CHECKING:
    from transformers import MarianMTModel


def to_marian(model: EncoderDecoder) -> "MarianMTModel":
    """Hugging Face's MarianMTModel. It starts from bos, and with its default attention implementation.

    Raises:
        UserError: transformers is not installed.
    """
    try:
        from transformers import MarianMTModel
    except ImportError:
        raise UserError("transformers is not installed: pip install -e '.[benchmark]'") from None
    with TemporaryDirectory() as folder:
        to_huggingface(model, folder, family="marian")
        marian = MarianMTModel.from_pretrained(folder, dtype=torch.float32)
    marian.generation_config.bad_words_ids = None  # as our search is timed: each word may come
    marian.generation_config.max_length = None  # the benchmark gives one
    result: MarianMTModel = marian.train()
    return result


class TorchTransformer(nn.Module):
    """torch.nn.Transformer as the paper has it: scaled embeddings, sinusoids, a tied output around it.

    It has one dropout number, which is also that of attention weights and activations. The norm it adds after
    a post-norm stack is taken away: the paper has none.
    """

    positions: Tensor

    def __init__(self, config: EncoderDecoderConfig) -> None:
        super().__init__()
        self.scale = config.d_model**0.5
        self.embedding = nn.Embedding(config.vocab_size, config.d_model, padding_idx=config.pad_id)
        positions = sinusoids(
            torch.arange(config.max_seq_len), config.d_model, layout=value_at(config, "positions.layout")
        )
        self.register_buffer("positions", positions, persistent=False)
        self.dropout = nn.Dropout(config.dropout)
        transformer: Any = nn.Transformer(
            config.d_model,
            value_at(config, "n_heads"),
            config.encoder.n_layers,
            config.decoder.n_layers,
            value_at(config, "d_ff"),
            config.dropout,
            value_at(config, "activation"),
            batch_first=True,
        )
        transformer.encoder.norm = transformer.decoder.norm = None
        self.transformer = transformer

    def _embed(self, ids: Tensor) -> Tensor:
        out: Tensor = self.dropout(self.embedding(ids) * self.scale + self.positions[: ids.size(1)])
        return out

    def forward(self, source: Tensor, target: Tensor, source_mask: Tensor | None = None) -> Tensor:
        """Logits (B, Tt, V). Targets are padded on the right only, so causality keeps padding out of them."""
        ignore = None if source_mask is None else ~source_mask
        hidden = self.transformer(
            self._embed(source),
            self._embed(target),
            tgt_mask=nn.Transformer.generate_square_subsequent_mask(target.size(1), device=target.device),
            tgt_is_causal=True,
            src_key_padding_mask=ignore,
            memory_key_padding_mask=ignore,
        )
        return nn.functional.linear(hidden, self.embedding.weight)


@torch.no_grad()
def to_torch(model: EncoderDecoder) -> TorchTransformer:
    """torch.nn.Transformer with the model's weights."""
    torch_model = TorchTransformer(model.config)
    _copy(torch_model.embedding, model.embedding)
    for layer, theirs in _layer_pairs(model, torch_model.transformer):
        attentions, norms = [(layer.attn, theirs.self_attn)], [layer.attn_norm]
        if layer.cross_attn is not None:
            attentions += [(layer.cross_attn, theirs.multihead_attn)]
            norms += [layer.cross_attn_norm]
        for ours, attention in attentions:
            for parameter, value in zip(
                (attention.in_proj_weight, attention.in_proj_bias), _fused(ours, "qkv"), strict=True
            ):
                parameter.copy_(value)
            _copy(attention.out_proj, ours.out_proj)
        for number, norm in enumerate([*norms, layer.ffn_norm], start=1):
            _copy(getattr(theirs, f"norm{number}"), norm)
        _copy(theirs.linear1, layer.ffn.up_proj)
        _copy(theirs.linear2, layer.ffn.down_proj)
    return torch_model


def made_up_tokens(config: EncoderDecoderConfig) -> list[str]:
    """A word for each id, for a translator that takes words."""
    special = {config.pad_id: "<pad>", config.bos_id: "<s>", config.eos_id: "</s>"}
    words = [special.get(i, f"t{i}") for i in range(config.vocab_size)]
    words[words.index("t1")] = "<unk>"
    return words


def _layer_pairs(model: EncoderDecoder, peer: Any) -> list[tuple[Any, Any]]:
    """Our layers beside the peer's, the encoder's first."""
    return [
        *zip(model.encoder.layers, peer.encoder.layers, strict=True),
        *zip(model.decoder.layers, peer.decoder.layers, strict=True),
    ]


def _copy(theirs: Any, ours: Any) -> None:
    theirs.load_state_dict(ours.state_dict())


def _fused(attention: nn.Module, names: str) -> tuple[Tensor, Tensor]:
    """Weight (n * H * Dh, D) and bias (n * H * Dh,) of the n projections of these names, out of q, k, v."""
    state = attention.state_dict()
    weights, biases = ([state[f"{name}_proj.{part}"] for name in names] for part in ("weight", "bias"))
    return torch.cat(weights), torch.cat(biases)
