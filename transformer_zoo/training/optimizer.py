"""Adam and AdamW over a model's parameters, or Muon over its matrices and Adam over the rest."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam, AdamW, Optimizer

from transformer_zoo.blocks import matrices
from transformer_zoo.kernels import lists
from transformer_zoo.training.config import OptimizerConfig
from transformer_zoo.training.layout import Layout
from transformer_zoo.training.muon import Muon

_ADAM = {"step", "exp_avg", "exp_avg_sq"}
# The state that each optimizer keeps for a parameter.
_STATE: dict[type[Optimizer], set[str]] = {Adam: _ADAM, AdamW: _ADAM, Muon: {"momentum"}}


class Optimizers:
    """Several optimizers, each for some of the parameters, used like one."""

    def __init__(self, parts: list[Optimizer], layout: Layout) -> None:
        self.parts, self.layout = parts, layout

    @property
    def param_groups(self) -> Iterator[dict[str, Any]]:
        return (group for part in self.parts for group in part.param_groups)

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def zero_grad(self, *, set_to_none: bool = True) -> None:
        """Delete the gradients; or keep their memory and set them to zero."""
        if set_to_none:
            for part in self.parts:
                part.zero_grad(set_to_none=True)
        else:
            parameters = (p for group in self.param_groups for p in group["params"])
            lists.zero_([p.grad for p in parameters if p.grad is not None])

    def state_dict(self) -> dict[str, Any]:
        """The state that `load_state_dict` takes, for any layout of weights. All processes must call it together."""
        return {"parts": [_moved(part, part.state_dict(), self.layout.kept) for part in self.parts]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from this state, with the present settings.

        Raises:
            ValueError: the state does not belong to these parameters (torch may raise other errors).
        """
        for part, its_state in zip(self.parts, state["parts"], strict=True):
            groups = zip(part.state_dict()["param_groups"], its_state["param_groups"], strict=True)
            settings = [{**ours, "params": theirs["params"]} for ours, theirs in groups]
            part.load_state_dict({**_moved(part, its_state, self._own), "param_groups": settings})
            for held in part.state.values():
                if held.keys() != _STATE[type(part)]:
                    raise ValueError(f"the optimizer has {', '.join(map(str, held)) or 'nothing'} for a parameter")

    def _own(self, whole: Tensor, parameter: Tensor) -> Tensor:
        """In memory of its own: a file may be mapped."""
        return self.layout.own(whole, parameter).clone()

    def set_learning_rate(self, lr: float) -> None:
        """Set the learning rate of every group; rates of Adam beside Muon keep their ratio to it."""
        for group in self.param_groups:
            group["lr"] = lr * group.get("lr_ratio", 1.0)


def _moved(part: Optimizer, state: dict[str, Any], move: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Any]:
    """The state of an optimizer; what is like its parameter there is given to `move`, along with that."""
    parameters = [p for group in part.param_groups for p in group["params"]]
    moved = {
        i: {name: move(value, parameters[i]) if value.dim() else value.clone() for name, value in held.items()}
        for i, held in state["state"].items()
    }
    return {**state, "state": moved}


def muon_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The weights that Muon takes: the projections of the layers."""
    return [matrix for matrix in dict.fromkeys(matrices(model)) if matrix.requires_grad]


def make_optimizer(
    model: nn.Module,
    config: OptimizerConfig,
    *,
    lr: float,
    dtype: torch.dtype = torch.float32,
    layout: Layout | None = None,
) -> Optimizers:
    """The optimizer of a model. Adam uses torch's fused kernel, which CPU and CUDA both have.

    Weight decay applies to parameters of two or more dimensions; norms and biases have one. Muon takes the matrices of
    the layers, which the layers name themselves, and iterates in `dtype`. Embeddings, which are updated row by row, and
    the output projection stay with Adam. Adam's rate beside Muon keeps the ratio of `config.adam_lr` to the peak `lr`.
    `layout` is the layout of the weights.
    """
    layout = layout or Layout()
    rest = [layout.of(p) for p in model.parameters() if p.requires_grad]
    parts: list[Optimizer] = []
    if config.name == "muon":
        muon = [layout.of(matrix) for matrix in muon_matrices(model)]
        rest = [p for p in rest if id(p) not in set(map(id, muon))]
        parts.append(
            Muon(
                muon,
                lr=lr,
                momentum=config.momentum,
                ns_steps=config.ns_steps,
                weight_decay=config.weight_decay,
                dtype=dtype,
                layout=layout,
            )
        )
    groups = [
        {"params": [p for p in rest if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in rest)
    if config.name == "muon" and config.adam_lr is not None:
        groups = [{**group, "lr_ratio": config.adam_lr / lr} for group in groups]
    kind = Adam if config.name == "adam" else AdamW
    parts.append(kind(groups, lr=lr, betas=config.betas, eps=config.eps, fused=fused))
    return Optimizers(parts, layout)
