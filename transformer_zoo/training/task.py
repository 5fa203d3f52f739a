"""What a model family gives the trainer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from transformer_zoo.training.feed import Batch
from transformer_zoo.training.logging import Number


@dataclass(kw_only=True)
class Task:
    """A model, its texts as micro-batches, and how it is measured.

    Args:
        model: What is trained and saved.
        objective: Module around `model`: `forward(batch)` gives (loss to minimise, plain NLL), both () and
            summed over tokens. `compile()` compiles what is worth it.
        plan: Epoch -> its micro-batches, in order, for all processes together, as what `load` understands.
            A pure function, so that a run can go on in the middle of an epoch.
        load: One entry of `plan` -> its `Batch` on the CPU.
        in_bucket: That batch with as much padding as gives it one of few shapes, for where each shape is recorded.
        validate: Metrics of the model as it is: at least "loss", and "bleu" where the best is chosen by it.
        samples: Outputs to look at, taken after `validate`.
        data: Checksums of the texts, by the names of their fields: a run that goes on must go on with the same, but
            for those it is only tested on (`check_texts`).
        d_model: Width of the model, by which learning rates go.
        fine_tuning: Whether the model was trained before.
        flops_per_token: Floating-point operations that training takes for a token, where it is known.
        max_source_tokens: The longest source of the training text, eos included, where there are sources.
        tokenizer: Fingerprint of the tokenizer, where a model is refused another one.
    """

    model: nn.Module
    objective: nn.Module
    plan: Callable[[int], Sequence[Any]]
    load: Callable[[Any], Batch]
    validate: Callable[[], dict[str, Number]]
    samples: Callable[[], list[str]]
    data: dict[str, str]
    d_model: int
    in_bucket: Callable[[Any], Batch] = lambda batch: batch
    fine_tuning: bool = False
    flops_per_token: float = 0.0
    max_source_tokens: int | None = None
    tokenizer: str | None = None
