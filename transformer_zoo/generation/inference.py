"""What every use of a trained model needs: padded rows, and evaluation mode for as long as it is used."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from transformer_zoo.models import DecoderOnly, EncoderDecoder
from transformer_zoo.threads import adapt


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
