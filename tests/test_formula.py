"""A compiler is given the formula: none of what makes a CPU fast is in the graph of a training step."""

from typing import Any

import pytest
import torch
import torch._dynamo  # which remembers `is_compiling` as it is when this is imported

from tests.architectures import ARCHITECTURES, text_batches, translation_batches
from tests.pretended import Watch
from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.models import EncoderDecoder
from transformer_zoo.training.tasks.objectives import GptObjective, TranslationObjective
from transformer_zoo.zoo import build

FORMULA = {
    # products, attention, norms, activations, dropout
    "mm", "bmm", "addmm", "_softmax", "_safe_softmax", "_softmax_backward_data", "native_layer_norm",
    "native_layer_norm_backward", "relu", "threshold_backward", "gelu", "gelu_backward", "silu", "silu_backward",
    "tanh", "tanh_backward", "bernoulli_",
    # lookups and the loss
    "embedding", "embedding_dense_backward", "_embedding_bag", "_embedding_bag_backward", "logsumexp", "gather",
    # arithmetic
    "add", "add_", "sub", "rsub", "mul", "mul_", "div", "div_", "neg", "abs", "pow", "rsqrt", "exp", "log", "sin",
    "cos", "sum", "mean", "cumsum", "clamp", "clamp_min", "clamp_max", "remainder", "__rshift__",
    # masks and positions
    "eq", "ne", "lt", "le", "gt", "ge", "any", "logical_and_", "bitwise_and", "bitwise_or", "bitwise_not",
    "where", "masked_fill", "masked_fill_",
    "tril", "arange",
    # shapes, types, memory
    "view", "_unsafe_view", "t", "transpose", "permute", "expand", "unsqueeze", "squeeze", "select", "slice",
    "slice_backward", "split", "unbind", "cat", "stack", "constant_pad_nd", "clone", "copy_", "alias", "detach",
    "_to_copy", "promote_types", "ones", "zeros", "ones_like", "zeros_like", "empty_like", "new_zeros", "new_full",
    "scalar_tensor",
}  # fmt: skip
TINY = {name: config for name, config in ARCHITECTURES.items() if ", " in name}


def operations(name: str, dtype: torch.dtype, *, compiled: bool, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What a training step does on a CPU, with padding, packed documents and dropout."""
    config = TINY[name]
    model = build(config)
    batches: list[Any]
    if isinstance(model, EncoderDecoder) and isinstance(config, EncoderDecoderConfig):
        objective: Any = TranslationObjective(model, label_smoothing=0.1)
        batches = translation_batches(config)
    else:
        objective, batches = GptObjective(model), text_batches()  # type: ignore[arg-type]
    if compiled:  # a compiler is told what would be done, where the code asks whether one looks on
        monkeypatch.setattr(torch, "compile", lambda function, **options: function)
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        objective.compile()
    with Watch() as watch:
        for batch in batches:
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                loss = objective(batch)[0]
            loss.backward()
    assert not watch.crossings
    return {operation.split(".")[1] for operation in watch.operations}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", TINY)
def test_a_compiled_step_is_the_formula(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    assert operations(name, dtype, compiled=True, monkeypatch=monkeypatch) <= FORMULA


def test_a_step_on_a_cpu_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    done = operations("gpt, grouped", torch.float32, compiled=False, monkeypatch=monkeypatch)
    assert {"random_", "embedding_sparse_backward"} & (done - FORMULA)
