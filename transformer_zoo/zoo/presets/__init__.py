"""Named architectures, as data: one file a family, encoder-decoders first, each list from small to large.

A preset has the numbers of the weights that were published under its name. Its `bos_id` is what a text of that model
starts with, None where nothing is put before it.
"""

from transformer_zoo.config import DecoderConfig, EncoderDecoderConfig
from transformer_zoo.zoo.presets import (
    bart,
    bloom,
    gemma,
    gpt,
    llama,
    m2m,
    marian,
    mistral,
    neox,
    opt,
    qwen,
    t5,
    transformer,
)

_ENCODER_DECODERS = (transformer, marian, bart, m2m, t5)
_DECODERS = (gpt, neox, opt, bloom, llama, mistral, qwen, gemma)

PRESETS: dict[str, EncoderDecoderConfig | DecoderConfig] = {
    **{name: config for family in _ENCODER_DECODERS for name, config in family.PRESETS.items()},
    **{name: config for family in _DECODERS for name, config in family.PRESETS.items()},
}
