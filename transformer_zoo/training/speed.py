"""How fast a machine trains."""

import time

import torch

from transformer_zoo.blocks import forward_flops
from transformer_zoo.training.device import choose_precision, tune_malloc, use_tf32
from transformer_zoo.zoo import create_model

TOKENS, LENGTH, SECONDS = 2048, 256, 1.0


def operations_a_second(device: torch.device) -> float:
    """Floating-point operations per second in training on `device`, measured on a small model for about a second.

    On a GPU the model is wider, because a small one would measure how fast Python is.
    """
    use_tf32(device)
    tune_malloc()
    width = 1024 if device.type == "cuda" else 192
    model = create_model("gpt-modern", vocab_size=512, d_model=width, n_heads=width // 64, d_ff=4 * width, n_layers=2)
    model.to(device)
    dtype = choose_precision("auto", device)
    ids = torch.zeros(TOKENS // LENGTH, LENGTH, dtype=torch.long, device=device)
    step = 3.0 * forward_flops(model, LENGTH) * TOKENS

    def seconds(steps: int) -> float:
        started = time.monotonic()
        for _ in range(steps):
            with torch.autocast(device.type, torch.bfloat16, enabled=dtype == torch.bfloat16):
                loss = model(ids).float().logsumexp(-1).sum()
            loss.backward()
            model.zero_grad()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        return time.monotonic() - started

    seconds(2)  # steps for allocations and for the choice of kernels
    one = seconds(2) / 2
    steps = max(2, int(SECONDS / one))
    return step * steps / seconds(steps)
