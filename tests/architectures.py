"""The architectures of the zoo's models, each once, and batches for them. They are for tests of what all models do."""

from collections.abc import Iterator
from typing import Any

import torch

import transformer_zoo as tz
from tests.models.helpers import GPT, GPT_VARIANTS, VARIANTS
from transformer_zoo.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from transformer_zoo.data import Batch, TokenBatch
from transformer_zoo.data.windows import IGNORED
from transformer_zoo.training.overrides import PROBABILITIES

Config = EncoderDecoderConfig | DecoderConfig
DROPOUT = dict.fromkeys(PROBABILITIES, 0.1)


def shape_of(value: Any) -> Iterator[Any]:
    """The values of a configuration that are not numbers."""
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from shape_of(inner)
    else:
        yield value if isinstance(value, str | bool) else value is None


def architectures() -> dict[str, Config]:
    """The architectures of the presets, each once and in few layers, and further ones that models can have."""
    found: dict[str, Config] = {}
    seen = set()
    for name in tz.list_models():
        config = tz.get_config(name)
        if isinstance(config, EncoderConfig):  # tests/models/test_encoder_only.py has them
            continue
        n_layers = max(len(stack.layer) if isinstance(stack.layer, tuple) else 1 for _, stack in config.stacks())
        kind = tuple(shape_of(config.to_dict()))
        if kind not in seen:
            seen.add(kind)
            found[name] = config.changed(**DROPOUT, n_layers=n_layers)
    for name, given in VARIANTS.items():
        tiny = {"vocab_size": 19, "d_model": 12, "n_heads": 2, "d_ff": 20, "n_encoder_layers": 2, "n_decoder_layers": 2}
        found[f"translation, {name}"] = EncoderDecoderConfig.of(**tiny | DROPOUT | given)
    for name, given in GPT_VARIANTS.items():
        found[f"gpt, {name}"] = DecoderConfig.of(**GPT | DROPOUT | given)
    return found


ARCHITECTURES = architectures()
TEXT = {name: config for name, config in ARCHITECTURES.items() if isinstance(config, DecoderConfig)}
TRANSLATION = {name: config for name, config in ARCHITECTURES.items() if isinstance(config, EncoderDecoderConfig)}


def translation_batches(config: EncoderDecoderConfig) -> list[Batch]:
    """One with padding and one without."""
    ids = torch.full((3, 7), config.eos_id), torch.full((3, 5), config.eos_id)
    masks = (torch.arange(7) < torch.tensor([[7], [4], [5]])), (torch.arange(5) < torch.tensor([[3], [5], [1]]))
    options = {"source": ids[0], "target_in": ids[1], "target_out": ids[1]}
    return [
        Batch(**options, source_mask=masks[0], target_mask=masks[1], n_tokens=9),
        Batch(**options, source_mask=None, target_mask=None, n_tokens=15),
    ]


def text_batches() -> list[TokenBatch]:
    """Windows, windows of packed documents, and one whose end is padded."""
    ids = torch.ones(3, 8, dtype=torch.int64)
    documents = torch.tensor([0, 0, 0, 1, 1, 2, 2, 2]).expand(3, -1)
    padded = torch.where(torch.arange(8) < torch.tensor([[8], [8], [5]]), ids, IGNORED)
    return [
        TokenBatch(ids, ids, None, None, n_tokens=24),
        TokenBatch(ids, ids, documents, torch.arange(8).expand(3, -1), n_tokens=24),
        TokenBatch(ids, padded, None, None, n_tokens=21),
    ]
