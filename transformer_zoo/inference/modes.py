"""What every use of a trained model needs: evaluation mode as long as it is used, and looks that are not too many."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from transformer_zoo.models import DecodingModel, EncoderOnly
from transformer_zoo.threads import adapt

LOOK_EVERY = {"cuda": 8}


def look_every(device: torch.device) -> int:
    """Steps between two looks of the CPU at what was chosen, for which it waits: on a GPU 8, elsewhere 1.

    In between the GPU has work to do at any time. Up to 7 steps are done in vain for a text that has ended.
    """
    return LOOK_EVERY.get(device.type, 1)


@contextmanager
def evaluating(model: DecodingModel | EncoderOnly, dtype: torch.dtype = torch.float32) -> Iterator[None]:
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
