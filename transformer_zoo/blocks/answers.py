"""What a whole model asks its parts. A module answers for itself; where it gives no answer, its children are asked.

A module may answer with attributes and methods of these names:

- `matrices`: its own weights (..., outputs, inputs) that inputs are multiplied by. They start as the model's matrices
  do, take two operations for each number, and Muon optimises them.
- `lookups`: its own weights (N, D) whose rows are looked up. They start as the model's embeddings do.
- `init_weights()`: sets its other own weights.
- `reads`, `writes`: its children and own weights that read the residual stream, and those whose outputs are added to
  it. A module with matrices gives both; an empty tuple is an answer.
- `rows_of_one`: its children whose matrices start as the rows of one matrix.
- `turns`: its children whose outputs are rotated by rotary positions, head by head.
- `flops(n_keys)`: operations for one token that attends to `n_keys` keys.
- `label`: its name in a table; `labels`: the names there of children that have no label.
- `cut(n, own)`: how n processes divide its computation, as a `Cut`.
- `stacks`: in a model, its children between embedding and head; `vocabulary`: its children whose weights have one row
  for each token.

The answers for torch's own layers are in `TORCHS`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor, nn

Cut = dict[str, Literal["columns", "rows", "alike"]]
"""How processes divide children. By "columns", each process has some of the outputs. By "rows", it has some of the
inputs, and the outputs of all are added up. With "alike", each has all weights and uses them for its share alone."""
Own = Callable[[Tensor, int], Tensor]
"""Takes this process's share, along an axis, from a tensor that all processes have."""


class Start(Protocol):
    """How weights are initialised."""

    def matrix(self, weight: Tensor, *, adds: bool, rows_of: int) -> None:
        """Draw a matrix (outputs, inputs).

        adds: the matrix's output is added to the residual stream. rows_of: the matrices that are rows of one with it.
        """
        ...

    def lookup(self, weight: Tensor) -> None:
        """Draw a table of vectors (N, D), or leave it as it is."""
        ...


@dataclass(frozen=True)
class Leaf:
    """The answers for a layer of torch's."""

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
    """Check that every part of a model that has weights answers what it must.
    >>> check_answers(EncoderLayer.paper(512, 8, 2048))

    Raises:
        ValueError: a part does not; the message names it and what is missing.
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
    for kind in ("matrices", "reads", "writes", "rows_of_one", "turns", "stacks", "vocabulary"):
        if missing := [name for name in getattr(part, kind, ()) if not hasattr(part, name)]:
            yield f"names {missing[0]} among its {kind}, and has nothing of that name"


def initialise(module: nn.Module, start: Start, *, adds: bool = True, rows_of: int = 1) -> None:
    """Set all weights of a module. adds: it is a layer, or a part of one, whose output is added to the residual stream.

    A module draws its own weights first. Then its children draw theirs, in the order in which they were registered.
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
    """Operations for one token that attends to `n_keys` keys, as in appendix B of PaLM (Chowdhery et al. 2022).

    Each number of a matrix takes two; attention's scores and their product with the values are added. Nothing is
    subtracted for keys that causality or a sliding window masks. Training takes three times as many. The count of an
    encoder-decoder is for one source token and one target token, each with `n_keys` keys.
    >>> forward_flops(FeedForward(512, 2048), n_keys=1) == 2 * 2 * 512 * 2048
    True
    """
    own: Callable[[int], int] | None = getattr(module, "flops", None)
    return flops_of_parts(module, n_keys) if own is None else own(n_keys)


def flops_of_parts(module: nn.Module, n_keys: int) -> int:
    """`forward_flops` of a module without `flops`: its own matrices and its children."""
    products: int = sum(2 * getattr(module, name).numel() for name in _own(module, "matrices"))
    return products + sum(forward_flops(child, n_keys) for child in module.children())


def matrices(module: nn.Module) -> list[nn.Parameter]:
    """The matrices (..., R, C) of a module; of a model, those of its stacks. Muon optimises them.
    >>> [tuple(matrix.shape) for matrix in matrices(FeedForward(512, 2048))]
    [(2048, 512), (512, 2048)]
    """
    children = [child for name, child in module.named_children() if _among(module, "stacks", name)]
    own = [getattr(module, name) for name in _own(module, "matrices")]
    return own + [matrix for child in children for matrix in matrices(child)]


def residual_axes(
    module: nn.Module, prefix: str = "", *, reads: bool = True, writes: bool = True
) -> dict[str, list[int]]:
    """The axes of each weight that belong to the residual stream of width D, by the weight's name in `state_dict`."""
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
    """Weights whose first axis is over the heads that rotary positions rotate, by their names in `state_dict`."""
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
    """The module's own weights of this kind."""
    own: tuple[str, ...] = getattr(_leaf(module) or module, kind, ())
    return own


def _is_matrix(module: nn.Module) -> bool:
    return _leaf(module) is not None and bool(_own(module, "matrices"))


def _among(module: nn.Module, kind: str, name: str) -> bool:
    """Whether the module lists this child or weight; a module without a list counts everything."""
    said: tuple[str, ...] = vars(module).get(kind, getattr(type(module), kind, (name,)))
    return name in said
