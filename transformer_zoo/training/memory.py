"""Whether a training run can fit the memory, before its text is read."""

import torch

from transformer_zoo.config import DecoderConfig, EncoderDecoderConfig, n_parameters
from transformer_zoo.models.memory import check_memory
from transformer_zoo.training.config import RunConfig
from transformer_zoo.training.loss import rows_at_once

_FLOAT = 4  # bytes: weights, gradients and what optimizers keep are float32 in mixed precision too


def check_training(config: EncoderDecoderConfig | DecoderConfig, run: RunConfig, device: torch.device) -> None:
    """Raises a UserError where a run needs more memory than is free, whatever its text.

    It counts weights, gradients, what the optimizer keeps (Muon one number for a weight, Adam two), a moving average,
    and the logits of a micro-batch as far as the loss has them at once; activations come on top.
    """
    weights = n_parameters(config) * _FLOAT
    vocabulary = config.target_size if isinstance(config, EncoderDecoderConfig) else config.padded_vocab_size
    rows = min(run.training.batch_tokens, rows_at_once(vocabulary, device))
    needs = {
        "weights": weights,
        "gradients": weights,
        "optimizer": weights * (1 if run.optimizer.name == "muon" else 2),
        "moving average": weights if run.training.ema_decay else 0,
        "logits": rows * vocabulary * _FLOAT,
    }
    check_memory(needs, device, smaller="make the model, its vocabulary or training.batch_tokens smaller")
