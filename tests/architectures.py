"""What the zoo's models are, each once, and batches for them: for tests of what all of them do."""

import dataclasses
from typing import Any

import torch

import transformer_zoo as tz
from tests.models.helpers import GPT, GPT_VARIANTS, VARIANTS
from transformer_zoo.config import PROBABILITIES, DecoderConfig, EncoderDecoderConfig
from transformer_zoo.data import Batch, TokenBatch
from transformer_zoo.data.windows import IGNORED

Config = EncoderDecoderConfig | DecoderConfig
DROPOUT = dict.fromkeys(PROBABILITIES, 0.1)


def architectures() -> dict[str, Config]:
    """What the presets are but for numbers, each once, in few layers; and what models can be beside that."""
    found: dict[str, Config] = {}
    seen = set()
    for name in tz.list_models():
        config = tz.get_config(name)
        layers = [field for field in ("n_layers", "n_encoder_layers", "n_decoder_layers") if hasattr(config, field)]
        n_layers = 1 if config.windowed_layers is None else 2
        changes: dict[str, Any] = {**DROPOUT, **dict.fromkeys(layers, n_layers)}
        if config.windowed_layers is not None:
            changes["windowed_layers"] = tuple(i for i in config.windowed_layers if i < n_layers)
        fields = config.to_dict()
        kind = tuple(value if isinstance(value, str | bool) else value is None for value in fields.values())
        if kind not in seen:
            seen.add(kind)
            found[name] = dataclasses.replace(config, **changes)
    for name, given in VARIANTS.items():
        tiny = {"vocab_size": 19, "d_model": 12, "n_heads": 2, "d_ff": 20, "n_encoder_layers": 2, "n_decoder_layers": 2}
        found[f"translation, {name}"] = EncoderDecoderConfig(**tiny | DROPOUT | given)
    for name, given in GPT_VARIANTS.items():
        found[f"gpt, {name}"] = DecoderConfig(**GPT | DROPOUT | given)
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
