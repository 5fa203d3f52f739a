"""How much of a device's memory training takes: whether a run fits, before its text is read, and the largest batch."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode

from transformer_zoo.config import ModelConfig
from transformer_zoo.kernels.cross_entropy import number_of_chunks, rows_at_once
from transformer_zoo.models import build_model
from transformer_zoo.models.empty import n_parameters
from transformer_zoo.models.memory import check_memory
from transformer_zoo.training.config import RunConfig
from transformer_zoo.training.optimizer import muon_matrices

_FLOAT = 4  # bytes: weights, gradients and what optimizers keep are float32 in mixed precision too
_BFLOAT16 = 2
_FEW = 8  # number of rows to estimate with


def check_training(config: ModelConfig, run: RunConfig, device: torch.device, *, parts: int = 1) -> None:
    """Raise a UserError if a run needs more memory than is free, whatever its text.

    It counts weights, gradients, the optimizer's state (Muon has one number for a weight, Adam two), a moving average,
    and the part of a micro-batch's logits that the loss holds at once. Activations are not counted. If a model is
    divided into `parts`, the first process has all weights during validation.
    """
    weights = n_parameters(config)
    vocabulary = getattr(config, "target_size", config.vocab_size)
    rows = min(run.training.batch_tokens, rows_at_once(vocabulary, device))
    whole = held(run, weights, weights if run.optimizer.name == "muon" else 0)
    needs = {name: needed // parts for name, needed in whole.items()}
    needs["weights for validation"] = whole["weights"] if parts > 1 else 0
    needs["logits"] = rows * vocabulary * _FLOAT
    check_memory(needs, device, smaller="make the model, its vocabulary or training.batch_tokens smaller")


def held(run: RunConfig, weights: int, by_muon: int) -> dict[str, int]:
    """Bytes that a run of this many weights holds all the time. Muon keeps one number for its weights, Adam two."""
    return {
        "weights": weights * _FLOAT,
        "gradients": weights * _FLOAT,
        "optimizer": (2 * weights - by_muon) * _FLOAT,
        "moving average": weights * _FLOAT if run.training.ema_decay else 0,
    }


def most_tokens(
    config: ModelConfig, run: RunConfig, memory: Sequence[float], *, length: int, recompute: bool = False
) -> list[int]:
    """The largest `training.batch_tokens` for GPUs of this many GB, 10^9 bytes; 0: the model cannot be trained on one.

    Other arguments are as for `StepMemory`.
    """
    weights = n_parameters(config)
    if sum(held(run, weights, weights).values()) > max(memory) * 1e9:
        return [0] * len(memory)  # too small to count
    step = StepMemory(config, run, length=length, recompute=recompute)
    return [length * step.most_rows(size * 1e9) for size in memory]


class StepMemory:
    """Bytes of a GPU's memory that a training step takes in bfloat16. They are counted on a model without memory,
    anywhere.

    What the forward pass keeps for the backward pass is counted tensor by tensor, each part of memory once, as PyTorch
    keeps it without torch.compile, which keeps less. Logits and their gradient are counted as the compiled loss holds
    them. The gradients of one layer's activations, which exist only for a short time, are not counted. `length` is the
    number of tokens of a window, or of a sentence on either side.
    """

    def __init__(self, config: ModelConfig, run: RunConfig, *, length: int, recompute: bool = False) -> None:
        with torch.device("meta"):
            self.model = build_model(config)
        matrices = muon_matrices(self.model) if run.optimizer.name == "muon" else []
        weights, by_muon = (sum(p.numel() for p in some) for some in (self.model.parameters(), matrices))
        self.held, self.length = held(run, weights, by_muon), length
        self.vocabulary, self.width = self.model.head_weight.shape
        self.of_row, self.of_all = self._count()
        self.again = 0  # of a row, in the layer that is computed again
        if recompute:
            stack = getattr(self.model, self.model.stacks[-1])
            stack.recompute = True
            self.again = self.of_row // len(stack.layers)
            self.of_row, self.of_all = self._count()

    def __call__(self, rows: int) -> dict[str, int]:
        """Bytes by purpose, with this many windows or sentences in a micro-batch."""
        tokens = rows * self.length
        at_once = -(-tokens // number_of_chunks(tokens, self.vocabulary * _BFLOAT16))
        return {
            **self.held,
            "activations": self.of_all + rows * (self.of_row + self.again),
            "logits": 2 * at_once * self.vocabulary * _BFLOAT16,
            # The loss computes the gradients of its inputs together with itself.
            "loss": 2 * tokens * self.width * _BFLOAT16 + self.vocabulary * self.width * (_FLOAT + _BFLOAT16),
        }

    def most_rows(self, memory: float) -> int:
        """The largest micro-batch that fits into this many bytes; 0: none fits."""
        rows = max(0, int((memory - sum(self.held.values())) / (self.of_row + self.again)))
        while rows and sum(self(rows).values()) > memory:
            rows -= 1
        return rows

    def _count(self) -> tuple[int, int]:
        """Bytes that are kept for each row, and those that do not grow with the number of rows: weights in bfloat16."""
        few, many = self.kept(_FEW), self.kept(2 * _FEW)
        of_row = (many - few) // _FEW
        return of_row, few - of_row * _FEW

    def kept(self, rows: int) -> int:
        """Bytes that the forward pass of this many rows keeps for the backward pass, except for the weights."""
        own = {t.untyped_storage()._cdata for t in (*self.model.parameters(), *self.model.buffers())}
        storages: dict[int, torch.UntypedStorage] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                storages[storage._cdata] = storage
            return tensor

        ids = torch.zeros(rows, self.length, dtype=torch.int64, device="meta")
        mask = torch.ones_like(ids, dtype=torch.bool)
        with _AsOnGpu(), saved_tensors_hooks(pack, lambda tensor: tensor):
            given = (ids, ids, mask) if len(self.model.stacks) > 1 else (ids,)  # as the objectives do
            self.model.hidden(*given)
        return sum(storage.nbytes() for storage in storages.values())


class _AsOnGpu(TorchFunctionMode):
    """What a GPU does under autocast, in dropout and in attention, and torch's meta device does differently."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow: dict[int, tuple[Tensor, Tensor]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.scaled_dot_product_attention:
            return _Attention.apply(*map(self._to_bfloat16, args), kwargs.get("attn_mask"))  # type: ignore[no-untyped-call]
        if func is F.dropout:
            return torch.native_dropout(args[0], kwargs["p"], True)[0]
        if func in _PRODUCTS:
            args = tuple(map(self._to_bfloat16, args))
        return func(*args, **kwargs)

    def _to_bfloat16(self, x: Any) -> Any:
        """Convert once for all products that use it, as `in_autocast_dtype` does, and as autocast does with weights."""
        if not isinstance(x, Tensor) or x.dtype != torch.float32:
            return x
        if id(x) not in self.narrow:
            self.narrow[id(x)] = x, x.bfloat16()
        return self.narrow[id(x)][1]


_PRODUCTS = {F.linear, torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__}


class _Attention(torch.autograd.Function):
    """What fused kernels keep: queries, keys, values, a mask, the output, and log Z of each query in float32."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        b, h, t, _ = queries.shape
        out = queries.new_empty(b, t, h, values.size(-1)).transpose(1, 2)  # as they lay it out: merging heads is free
        log_z = queries.new_empty(queries.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(queries, keys, values, mask, out, log_z)
        return out
