"""Presets of T5."""

from dataclasses import replace

from transformer_zoo.config import EncoderDecoderConfig


def _t5(n_layers: int, d_model: int, d_ff: int, n_heads: int, head_dim: int) -> EncoderDecoderConfig:
    """Raffel et al. 2019, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text Transformer"."""
    return EncoderDecoderConfig(
        vocab_size=32128,
        d_model=d_model,
        n_heads=n_heads,
        head_dim=head_dim,
        d_ff=d_ff,
        n_encoder_layers=n_layers,
        n_decoder_layers=n_layers,
        max_seq_len=512,
        attention_dropout=0.1,
        activation_dropout=0.1,
        norm="rmsnorm",
        norm_position="pre",
        norm_eps=1e-6,
        bias=False,
        attention_scale=1.0,
        positions="relative",
        scale_embeddings=False,
        logit_scale=d_model**-0.5,
        zero_pad=False,  # a target starts with it
        bos_id=0,
        eos_id=1,
        never_ids=(),
    )


def _t5_v1_1(n_layers: int, d_model: int, d_ff: int, n_heads: int) -> EncoderDecoderConfig:
    """Shazeer 2020, "GLU Variants Improve Transformer": GeGLU, and a head of its own, which is not scaled."""
    return replace(
        _t5(n_layers, d_model, d_ff, n_heads, 64),
        activation="gelu_tanh",
        gated=True,
        share_embeddings="inputs",
        logit_scale=None,
    )


_V1_1 = {
    "small": _t5_v1_1(8, 512, 1024, 6),
    "base": _t5_v1_1(12, 768, 2048, 12),
    "large": _t5_v1_1(24, 1024, 2816, 16),
    "xl": _t5_v1_1(24, 2048, 5120, 32),
    "xxl": _t5_v1_1(24, 4096, 10240, 64),
}

PRESETS: dict[str, EncoderDecoderConfig] = {
    "t5-small": _t5(6, 512, 2048, 8, 64),
    "t5-base": _t5(12, 768, 3072, 12, 64),
    "t5-large": _t5(24, 1024, 4096, 16, 64),
    "t5-3b": _t5(24, 1024, 16384, 32, 128),
    "t5-11b": _t5(24, 1024, 65536, 128, 128),
    **{f"t5-v1.1-{size}": config for size, config in _V1_1.items()},
    # Chung et al. 2022, "Scaling Instruction-Finetuned Language Models", from the same shapes.
    **{f"flan-t5-{size}": config for size, config in _V1_1.items()},
}
