"""What every use of a trained model needs: padded rows, and evaluation mode for as long as it is used."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from transformer_zoo.models import DecoderOnly, EncoderDecoder
from transformer_zoo.threads import adapt

LOOK_EVERY = {"cuda": 8}


def look_every(device: torch.device) -> int:
    """Steps between two looks of the CPU at what was chosen, for which it waits: on a GPU 8, elsewhere 1.

    In between the GPU has work to do at any time. Up to 7 steps are done in vain for a text that has ended.
    """
    return LOOK_EVERY.get(device.type, 1)


def pad_ids(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[Tensor, Tensor | None]:
    """Rows of ids as one (B, T) tensor, and its mask (B, T), True for what is real; None where all is."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[pad_id] * (longest - len(row))] for row in rows])
    lengths = torch.tensor([len(row) for row in rows])
    mask = torch.arange(longest) < lengths[:, None]
    return ids, None if bool(mask.all()) else mask


@contextmanager
def evaluating(model: EncoderDecoder | DecoderOnly, dtype: torch.dtype) -> Iterator[None]:
    """Evaluation mode and autocast to `dtype` (none for float32), and afterwards the mode as it was."""
    adapt()
    was_training = model.training
    if was_training:
        model.eval()
    try:
        with torch.autocast(model.head_weight.device.type, dtype, enabled=dtype != torch.float32):
            yield
    finally:
        if was_training:
            model.train()
