"""How many parameters a model has, from its configuration alone: without torch, which takes seconds to load."""

from dataclasses import replace

from transformer_zoo.config.families import DecoderConfig, EncoderDecoderConfig
from transformer_zoo.config.model import ModelConfig


def n_parameters(config: EncoderDecoderConfig | DecoderConfig) -> int:
    """Of the model that `zoo.build` builds: a matrix that is shared counts once."""
    width = config.d_model
    if isinstance(config, DecoderConfig):
        embedding = config.padded_vocab_size * (config.d_embedding or width)
        projections = 2 * (config.d_embedding or 0) * width
        ngrams = (config.ngrams - 1) * config.ngram_rows * width
        head = 0 if config.tie_embeddings else embedding
        return embedding + projections + ngrams + head + _stack(config, config.n_layers)
    decoder = replace(config, n_heads=config.n_decoder_heads or config.n_heads, d_ff=config.decoder_d_ff or config.d_ff)
    rows = config.vocab_size
    if config.share_embeddings in ("decoder", "none"):
        rows += config.target_size
    if config.share_embeddings in ("inputs", "none"):
        rows += config.target_size  # of the head
    stacks = _stack(config, config.n_encoder_layers) + _stack(decoder, config.n_decoder_layers, cross_attention=True)
    return rows * width + stacks


def _stack(config: ModelConfig, n_layers: int, *, cross_attention: bool = False) -> int:
    positions = {
        "learned": (config.max_seq_len + config.position_offset) * config.d_model,
        "relative": config.relative_buckets * config.n_heads,
    }.get(config.positions, 0)
    outside = (config.embedding_norm + config.ends_in_norm) * _norm(config)
    qk_norms = 2 * config.d_head if config.qk_norm else 0  # of self-attention
    n_attention = 1 + cross_attention
    n_norms = (n_attention + 1) * (2 if config.norm_position == "both" else 1)
    layer = n_attention * _attention(config) + qk_norms + _feed_forward(config) + n_norms * _norm(config)
    return positions + outside + n_layers * layer


def _norm(config: ModelConfig) -> int:
    if config.norm == "rmsnorm":
        return config.d_model
    return config.d_model * (1 + config.norm_bias) if config.norm_affine else 0


def _attention(config: ModelConfig) -> int:
    queries = config.n_heads * config.d_head
    keys = (config.n_kv_heads or config.n_heads) * config.d_head
    qkv_bias = config.bias if config.qkv_bias is None else config.qkv_bias
    return (
        2 * config.d_model * (queries + keys)  # into queries and out again, into keys and into values
        + qkv_bias * (queries + 2 * keys)
        + config.bias * config.d_model
    )


def _feed_forward(config: ModelConfig) -> int:
    into = 1 + config.gated
    bias = config.bias if config.ffn_bias is None else config.ffn_bias
    return (into + 1) * config.d_model * config.d_ff + bias * (into * config.d_ff + config.d_model)
