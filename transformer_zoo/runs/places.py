"""How a model distinguishes positions: vectors that are added, angles of rotations, scores by distance."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from transformer_zoo.errors import UserError
from transformer_zoo.models import check_model


@dataclass(frozen=True)
class PositionsTable:
    """One way in which a stack distinguishes positions, as a table.
    >>> positions_table(tz.create_model("gpt-nano"), n=8)[0].values.shape
    torch.Size([8, 128])

    Args:
        title: The stack, and the way.
        places: For each row: the position of a token from 0, or the distance from a query back to a key.
        columns: What a column is: "dimension", "cosine, then sine of each pair" or "head".
        values: (rows, columns), float32 on the CPU.
    """

    title: str
    places: list[int]
    columns: str
    values: Tensor


@torch.inference_mode()
def positions_table(model: nn.Module, n: int = 64) -> list[PositionsTable]:
    """Every way in which a model distinguishes the first n positions, one table each; empty if it has none.
    >>> [table.title for table in positions_table(tz.create_model("transformer-tiny"))]
    ['encoder: added to embeddings', 'decoder: added to embeddings']

    Args:
        model: a model of this package.
        n: number of positions, or of distances; there are fewer if the model has no more.

    Raises:
        UserError: it is another model, or n is below 1.
    """
    check_model(model, "positions_table", writes=False)
    if n < 1:
        raise UserError(f"n {n} must be at least 1")
    known: Any = model
    n = min(n, known.config.max_seq_len)
    return [table for name in known.stacks for table in _tables(name, getattr(known, name), known.config.d_model, n)]


def _tables(name: str, stack: Any, d_model: int, n: int) -> Iterator[PositionsTable]:
    """The tables of one stack."""
    width = d_model if stack.embedding_proj is None else stack.embedding_proj.in_features
    x = torch.zeros(1, n, width, device=next(stack.parameters()).device)
    added = stack.positions.add(x, 0, None)[0]  # (n, D)
    if added.any():
        yield PositionsTable(f"{name}: added to embeddings", [*range(n)], "dimension", added.float().cpu())
    if stack.positions.scores_by_place:
        yield _scores(f"{name}: added to scores, by distance", stack.positions, n, x.device, is_causal=stack.is_causal)
    for part, layers in _parts(stack).items():
        where = f"{name}, layer{'s' * (len(layers) > 1)} {_ranges(layers)}" if len(layers) < len(stack.layers) else name
        if hasattr(part, "turn"):
            cos, sin, _ = part.turn(x, 0, None)  # (n, R/2) each
            values = torch.cat([cos, sin], dim=-1).float().cpu()
            yield PositionsTable(f"{where}: rotation of queries and keys", [*range(n)], _PAIRS, values)
        else:
            title = f"{where}: added to scores, by distance"
            yield _scores(title, part, n, x.device, is_causal=stack.is_causal)


_PAIRS = "cosine, then sine, of each pair of dimensions"


def _parts(stack: Any) -> dict[Any, list[int]]:
    """The module that gives some layers their positions, and the numbers of these layers, from 1."""
    found: dict[Any, list[int]] = {}
    for number, layer in enumerate(stack.layers, start=1):
        for part in (getattr(layer.attn, "rotary", None), getattr(layer.attn, "scores", None)):
            if part is not None:
                found.setdefault(part, []).append(number)
    return found


def _scores(title: str, part: Any, n: int, device: torch.device, *, is_causal: bool) -> PositionsTable:
    """The bias of scores for each distance from a query back to a key; a negative distance means a key after the
    query."""
    behind = torch.arange(0 if is_causal else 1 - n, n, device=device)  # (N,)
    scores = part(torch.tensor([[n - 1]], device=device), (n - 1 - behind)[None])[0, :, 0]  # (H, N)
    return PositionsTable(title, behind.tolist(), "head", scores.T.float().cpu())


def _ranges(numbers: list[int]) -> str:
    """[1, 2, 3, 5] -> "1 to 3, 5"."""
    starts = [number for number in numbers if number - 1 not in numbers]
    ends = [number for number in numbers if number + 1 not in numbers]
    pairs = zip(starts, ends, strict=True)
    return ", ".join(f"{start}" if start == end else f"{start} to {end}" for start, end in pairs)
