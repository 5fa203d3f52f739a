"""What every use of a trained model needs: evaluation mode while it is used, and few waits for the device."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from transformer_zoo.models import DecodingModel, EncoderOnly
from transformer_zoo.threads import adapt

LOOK_EVERY = {"cuda": 8}


def look_every(device: torch.device) -> int:
    """Number of steps between two looks of the CPU at the chosen tokens, for which it waits: on a GPU 8, elsewhere 1.

    The GPU has work at any time in between. Up to 7 steps are wasted on a text that has ended.
    """
    return LOOK_EVERY.get(device.type, 1)


@contextmanager
def evaluating(model: DecodingModel | EncoderOnly, dtype: torch.dtype = torch.float32) -> Iterator[None]:
    """Use evaluation mode and autocast to `dtype` (none for float32); restore the mode afterwards."""
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
