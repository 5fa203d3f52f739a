"""Options of writing and searching by their names alone, as tables of tests have them."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import torch
from torch import Tensor

from transformer_zoo import inference
from transformer_zoo.config import BeamSearch, Sampling
from transformer_zoo.inference import Batching, Hypothesis, NewToken, Speculation, Steps, Translation

Rows = Sequence[Sequence[int]] | Tensor


def taken(kind: type, options: dict[str, Any]) -> Any:
    """The dataclass of those of the options that it has, which are taken out."""
    return kind(**{field.name: options.pop(field.name) for field in fields(kind) if field.name in options})


def writing(options: dict[str, Any]) -> dict[str, Any]:
    """What `generate` takes."""
    kinds = {"sampling": Sampling, "speculation": Speculation, "steps": Steps}
    return {**{name: taken(kind, options) for name, kind in kinds.items()}, **options}


def generate(model: Any, prompts: Rows, **options: Any) -> list[list[int]]:
    return inference.generate(model, prompts, **writing(options))


def generate_stream(model: Any, prompts: Rows, **options: Any) -> Iterator[NewToken]:
    return inference.generate_stream(model, prompts, **writing(options))


def write(model: Any, tokenizer: Any, prompts: Sequence[str], **options: Any) -> Iterator[inference.NewText]:
    return inference.write(model, tokenizer, prompts, **writing(options))


def plainly(model: Any, prompts: Sequence[Sequence[int]], seed: int = 0, **options: Any) -> list[list[int]]:
    """What `generate` writes, by its reference."""
    how = taken(Sampling, options)
    rules = inference.processors(how, model, options.pop("never", None))
    return [
        inference.generate_plainly(model, prompt, how, rules, seed=seed + i, **options)
        for i, prompt in enumerate(prompts)
    ]


def beam_search(model: Any, sources: Rows, mask: Tensor | None = None, **options: Any) -> list[list[Hypothesis]]:
    how = taken(BeamSearch, options)
    return inference.beam_search(model, sources, how, source_mask=mask, **options)


def translate_n_best(model: Any, tokenizer: Any, lines: Any, **options: Any) -> Iterator[list[Translation]]:
    kinds = {"how": BeamSearch, "batching": Batching}
    how = {name: taken(kind, options) for name, kind in kinds.items()}
    return inference.translate_n_best(model, tokenizer, lines, **how, **options)


def translate(model: Any, tokenizer: Any, lines: Any, **options: Any) -> Iterator[str]:
    kinds = {"how": BeamSearch, "batching": Batching}
    how = {name: taken(kind, options) for name, kind in kinds.items()}
    return inference.translate(model, tokenizer, lines, **how, **options)


def greedily(model: Any, sources: Rows, mask: Tensor | None = None, *, max_extra: int = 50, **options: Any) -> Any:
    """The tokens that `generate` writes at temperature 0 where `beam_search` finds them with a beam of 1."""
    rows = (
        sources
        if mask is None
        else [row[real].tolist() for row, real in zip(torch.as_tensor(sources), mask, strict=True)]
    )
    longest = options.pop("max_length", 10**9)
    limits = [min(len(row) + max_extra, longest) for row in rows]
    return generate(model, rows, temperature=0, max_new_tokens=limits, **options)
