"""From transformers' files to a model of this package, one tensor at a time."""

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from transformer_zoo.errors import UserError
from transformer_zoo.models import AnyModel
from transformer_zoo.zoo import build_empty
from transformer_zoo.zoo.huggingface.family import Config, Weight, spelled_out
from transformer_zoo.zoo.huggingface.hub import resolve
from transformer_zoo.zoo.huggingface.source import Source


class Target(NamedTuple):
    """One of our tensors, and the form of theirs."""

    tensor: Tensor
    form: Weight


def from_huggingface(
    path_or_name: str | Path,
    *,
    dtype: torch.dtype | None = torch.float32,
    device: str | torch.device = "cpu",
) -> AnyModel:
    """A model in evaluation mode, with the weights of a folder in transformers' format, a GGUF file or a model on the
    hub.

    The weights are read from safetensors, or from `torch.save`'s files as tensors only; nothing in a file is executed.
    They are copied piece by piece, so memory is that of the model and at most a fifth more. The exception is a file of
    `torch.save` from before torch 1.6, which must be read whole. If the model has another dtype, the file stays in
    memory until its tensors are copied. If there are several such files, one at a time is in memory.
    >>> tz.to_huggingface(tz.create_model("gpt2", vocab_size=100, d_model=48), "exported")
    >>> from_huggingface("exported").config.d_model
    48

    Args:
        path_or_name: a folder with config.json and weights, a GGUF file, `package:NAME` for either of them inside an
            installed package, or the name of a model on the Hugging Face hub.
        dtype: type of the model; None: the type of most weights in the file.
        device: device of the model.

    Raises:
        UserError: a file, a field or a tensor is missing, not known, or not supported; the message names it.
    """
    source = Source(resolve(path_or_name))
    try:
        model = build_empty(source.config, device=device, dtype=dtype or _dtype(source))
    except ValueError as error:  # a block that cannot be built from these fields
        raise UserError(f"{source.checkpoint.folder}: {error}") from None
    fill(model, source)
    return model.eval()


def _dtype(source: Source) -> torch.dtype:
    """The type of the largest tensor."""
    entries = [entry for entry in source.checkpoint.entries.values() if entry.dtype is not None]
    largest = max(entries, key=lambda entry: torch.Size(entry.shape).numel(), default=None)
    return torch.float32 if largest is None or largest.dtype is None else largest.dtype


@torch.no_grad()
def fill(model: AnyModel, source: Source) -> None:
    """Copy every tensor into the model, after all names and shapes have been checked.

    Raises:
        UserError: a tensor is missing, is not expected, or has another shape.
    """
    targets: dict[str, list[Target]] = defaultdict(list)
    missing = []
    for name, tensor in model.state_dict(keep_vars=True).items():
        theirs, form = source.weight(name)
        if source.file_name(theirs) is None and form.row:
            tensor.zero_()  # final_logits_bias, which may be missing
        elif source.file_name(theirs) is None:
            missing.append(theirs)
        else:
            targets[theirs].append(Target(tensor, form))
    if missing:
        raise source.missing(missing)
    source.check_unused(targets)
    for theirs, parts in targets.items():
        _check_shape(source, theirs, parts)
    order = source.in_turn(targets)
    for i, theirs in enumerate(order):
        source.keep(order[i:])
        _copy(source, theirs, targets[theirs])


def _check_shape(source: Source, theirs: str, parts: list[Target]) -> None:
    tensor, form = parts[0]
    shape = tuple(tensor.shape)
    if form.part is not None:
        shape = (sum(part.tensor.size(0) for part in parts), *shape[1:])
    if form.transposed:
        shape = shape[::-1]
    if form.row:
        shape = (1, *shape)
    name = source.file_name(theirs)
    assert name is not None
    entry = source.checkpoint.entries[name]
    if entry.shape != shape:
        raise UserError(
            f"{source.checkpoint.folder}: {name} has shape {list(entry.shape)}, but {list(shape)} by the configuration"
        )
    if entry.dtype is None:
        raise UserError(f"{source.checkpoint.folder}: {name} holds no floating-point numbers")


def _copy(source: Source, theirs: str, parts: list[Target]) -> None:
    """One tensor of theirs into ours; directly, if its form is the same."""
    name = source.file_name(theirs)
    assert name is not None
    tensor, form = parts[0]
    if form == Weight(form.module) and (whole := source.checkpoint.take(name, tensor)) is not None:
        tensor.data = whole
        return
    if form.part is None:
        there = tensor.T if form.transposed and tensor.dim() == 2 else tensor
        source.checkpoint.copy(name, there[None] if form.row else there)
        if form.mirrored:
            tensor.copy_(mirror(tensor, source.config))
        return
    held = source.checkpoint.read(name, tensor.dtype)
    held = held.T if form.transposed and held.dim() == 2 else held
    ours = [tensor for tensor, _ in sorted(parts, key=lambda part: part.form.part or 0)]
    for tensor, piece in zip(ours, cut(held, [len(tensor) for tensor in ours], form, source.config), strict=True):
        tensor.copy_(piece)


def mirror(heads: Tensor, config: Config) -> Tensor:
    """(H Dh, D) or (H Dh,) with the halves of each head exchanged."""
    half: int = spelled_out(config, "head_dim") // 2
    mirrored: Tensor = heads.unflatten(0, (-1, 2, half)).flip(1)
    return mirrored.flatten(0, 2)


def cut(fused: Tensor, widths: list[int], form: Weight, config: Config) -> list[Tensor]:
    """Single projections, such as those of queries, keys and values, from one (sum of their widths, D), or their
    biases."""
    groups = form.groups or spelled_out(config, "n_kv_heads")
    parts = fused.unflatten(0, (groups, -1)).split([width // groups for width in widths], 1)  # (G, width / G, ...)
    return [part.flatten(0, 1) for part in parts]


def join(parts: list[Tensor], form: Weight, config: Config) -> Tensor:
    """The reverse of `cut`."""
    groups = form.groups or spelled_out(config, "n_kv_heads")
    return torch.cat([part.unflatten(0, (groups, -1)) for part in parts], 1).flatten(0, 1)
