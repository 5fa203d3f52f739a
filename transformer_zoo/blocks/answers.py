"""What a whole model asks of its parts: a module answers for itself, and where it says nothing its children do.

What a module may say, in attributes and methods of these names:

- `matrices`: its own weights (..., outputs, inputs) that multiply. They start as the model's matrices do, take two
  operations for each number, and go to Muon.
- `lookups`: its own weights (N, D) whose rows are looked up. They start as the model's embeddings do.
- `init_weights()`: sets its other own weights.
- `reads`, `writes`: its children and own weights that take in the residual stream, and whose outputs go out to it. Who
  holds matrices says both; empty tuples are an answer.
- `rows_of_one`: its children whose matrices start as the rows of one.
- `turns`: its children whose outputs rotary positions turn, head by head.
- `flops(n_keys)`: operations for one token that attends to `n_keys`.
- `label`: what it is called in a table; `labels`: what its children are called there that do not say so.
- `stacks`: of a model, its children between embedding and head.

torch's own layers answer in `TORCHS`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn


class Start(Protocol):
    """How weights start."""

    def matrix(self, weight: Tensor, *, adds: bool, rows_of: int) -> None:
        """Draw a matrix (outputs, inputs).

        adds: what it gives is added to the residual stream. rows_of: matrices like it that are one with it.
        """
        ...

    def lookup(self, weight: Tensor) -> None:
        """Draw a table of vectors (N, D), or leave it as it was made."""
        ...


@dataclass(frozen=True)
class Leaf:
    """The answers of a layer of torch's."""

    matrices: tuple[str, ...] = ()
    lookups: tuple[str, ...] = ()
    init_weights: Callable[[Any], None] = lambda module: module.reset_parameters()


def _zero_bias(linear: nn.Linear) -> None:
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)


TORCHS: dict[type[nn.Module], Leaf] = {
    nn.Linear: Leaf(("weight",), init_weights=_zero_bias),
    nn.Embedding: Leaf(lookups=("weight",), init_weights=lambda embedding: None),
    nn.LayerNorm: Leaf(),
    nn.RMSNorm: Leaf(),
}


def check_answers(model: nn.Module) -> None:
    """Whether every part of a model that has weights says what it must.
    >>> check_answers(EncoderLayer.paper(512, 8, 2048))

    Raises:
        ValueError: one does not; it is named, and what it lacks.
    """
    for name, part in model.named_modules():
        for lack in _lacks(part):
            raise ValueError(f"{name or 'this'} ({type(part).__name__}) {lack}")


def _lacks(part: nn.Module) -> Iterator[str]:
    own = {name for name, _ in part.named_parameters(recurse=False)}
    known = {"weight", "bias"} if _leaf(part) else {*_own(part, "matrices"), *_own(part, "lookups")}
    if not hasattr(part, "init_weights") and (unknown := sorted(own - known)):
        yield (
            f"has weights of its own, {', '.join(unknown)}: it must say which of them multiply (matrices = ...) and "
            "which are looked up (lookups = ...), and set the others (def init_weights(self))"
        )
    leaf = () if _leaf(part) else _own(part, "matrices")
    held = [*leaf, *(name for name, child in part.named_children() if _is_matrix(child))]
    if held and not (hasattr(part, "reads") and hasattr(part, "writes")):
        yield (
            f"multiplies by {', '.join(held)}: it must say which of them take in the residual stream (reads = ...), "
            "and which give what is added to it (writes = ...)"
        )
    for kind in ("matrices", "reads", "writes", "rows_of_one", "turns", "stacks"):
        if missing := [name for name in getattr(part, kind, ()) if not hasattr(part, name)]:
            yield f"names {missing[0]} among its {kind}, and has nothing of that name"


def initialise(module: nn.Module, start: Start, *, adds: bool = True, rows_of: int = 1) -> None:
    """Set all weights of a module. adds: it is a layer, or a part of one whose output is added to the residual stream.

    A module draws its own weights before its children do, and these in the order in which they were registered.
    """
    for name in _own(module, "matrices"):
        weight = getattr(module, name)
        for matrix in weight.view(-1, *weight.shape[-2:]):
            start.matrix(matrix, adds=adds and _among(module, "writes", name), rows_of=rows_of)
    for name in _own(module, "lookups"):
        start.lookup(getattr(module, name))
    own: Any = type(module) if hasattr(type(module), "init_weights") else _leaf(module)
    if own is not None:
        own.init_weights(module)
    group = getattr(module, "rows_of_one", ())
    for name, child in module.named_children():
        child_adds = adds and _among(module, "stacks" if hasattr(type(module), "stacks") else "writes", name)
        initialise(child, start, adds=child_adds, rows_of=len(group) if name in group else 1)


def forward_flops(module: nn.Module, n_keys: int) -> int:
    """Operations for one token that attends to `n_keys`, as in appendix B of PaLM (Chowdhery et al. 2022).

    Two for each number of a matrix, and those of attention's scores and of their product with the values, without
    subtracting what causality or a sliding window masks. Training takes three times as many. Of an encoder-decoder they
    are for one token of the source and one of the target, of which each has `n_keys`.
    >>> forward_flops(FeedForward(512, 2048), n_keys=1) == 2 * 2 * 512 * 2048
    True
    """
    own: Callable[[int], int] | None = getattr(module, "flops", None)
    return flops_of_parts(module, n_keys) if own is None else own(n_keys)


def flops_of_parts(module: nn.Module, n_keys: int) -> int:
    """What `forward_flops` is of a module that does not say: of its own matrices, and of its children."""
    products: int = sum(2 * getattr(module, name).numel() for name in _own(module, "matrices"))
    return products + sum(forward_flops(child, n_keys) for child in module.children())


def matrices(module: nn.Module) -> list[nn.Parameter]:
    """The matrices (..., R, C) of a module, of a model those of its stacks: what Muon takes.
    >>> [tuple(matrix.shape) for matrix in matrices(FeedForward(512, 2048))]
    [(2048, 512), (512, 2048)]
    """
    children = [child for name, child in module.named_children() if _among(module, "stacks", name)]
    own = [getattr(module, name) for name in _own(module, "matrices")]
    return own + [matrix for child in children for matrix in matrices(child)]


def residual_axes(
    module: nn.Module, prefix: str = "", *, reads: bool = True, writes: bool = True
) -> dict[str, list[int]]:
    """Each weight's axes that are the residual stream's, of width D, by its name in `state_dict`."""
    own_matrices = _own(module, "matrices")
    found: dict[str, list[int]] = {}
    for name, _ in module.named_parameters(recurse=False):
        takes, gives = reads and _among(module, "reads", name), writes and _among(module, "writes", name)
        if name in own_matrices:
            found[prefix + name] = [-1] * takes + [-2] * gives
        else:  # a bias is the product's; a norm's weight, or vectors that are looked up, the stream's either way
            found[prefix + name] = [-1] * (gives or (takes and not own_matrices))
    for name, child in module.named_children():
        takes, gives = reads and _among(module, "reads", name), writes and _among(module, "writes", name)
        found |= residual_axes(child, f"{prefix}{name}.", reads=takes, writes=gives)
    return found


def turned_weights(model: nn.Module) -> list[str]:
    """Weights whose first axis is that of the heads which rotary positions turn, by their names in `state_dict`."""
    return [
        f"{prefix}.{name}.{weight}" if prefix else f"{name}.{weight}"
        for prefix, part in model.named_modules()
        for name in getattr(part, "turns", ())
        if (child := getattr(part, name)) is not None
        for weight, _ in child.named_parameters()
    ]


def _leaf(module: nn.Module) -> Leaf | None:
    return next((leaf for kind, leaf in TORCHS.items() if isinstance(module, kind)), None)


def _own(module: nn.Module, kind: str) -> tuple[str, ...]:
    """Its own weights of this kind."""
    own: tuple[str, ...] = getattr(_leaf(module) or module, kind, ())
    return own


def _is_matrix(module: nn.Module) -> bool:
    return _leaf(module) is not None and bool(_own(module, "matrices"))


def _among(module: nn.Module, kind: str, name: str) -> bool:
    """Whether the module counts this among them; one that does not say counts everything."""
    said: tuple[str, ...] = vars(module).get(kind, getattr(type(module), kind, (name,)))
    return name in said
