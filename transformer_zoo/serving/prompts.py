"""Requests to write, checked before they wait."""

from collections.abc import Collection, Sequence

import torch

from transformer_zoo.config import Sampling
from transformer_zoo.errors import UserError
from transformer_zoo.inference.codec import Codec
from transformer_zoo.inference.generation import SEEDS, token_rows
from transformer_zoo.inference.rules import check_never, forced_tokens, processors
from transformer_zoo.inference.sampling import Chooser, generators_of
from transformer_zoo.inference.text import TextStream, stop_strings, unwritten
from transformer_zoo.models import DecodingModel
from transformer_zoo.models.memory import free_memory
from transformer_zoo.models.shared_cache import ROOM
from transformer_zoo.serving.requests import Request
from transformer_zoo.serving.writing import Row


def new_row(
    model: DecodingModel,
    codec: Codec,
    prompt: str | Sequence[int],
    sampling: Sampling,
    *,
    most: int,
    max_new_tokens: int | None,
    stops: Sequence[str],
    seed: int | None,
    never: Collection[int] | None,
    ignore_eos: bool,
) -> Row:
    """A text that is to be written as `inference.write` writes it alone.

    most: number of tokens of prompt and answer together, at most.

    Raises:
        UserError: an argument is out of range, or a prompt is empty, not a text of this model, or too long.
    """
    facts = model.facts
    [given] = codec.encode([prompt]) if isinstance(prompt, str) else token_rows([prompt], model.config.vocab_size)
    text, stops = model.opening(given), stop_strings(model, stops)
    limit = _limit(len(given), len(text), max_new_tokens, most, answers=facts.has_source)
    if seed is not None and not 0 <= seed < SEEDS:
        raise UserError(f"seed {seed} must be from 0 to 2^63 - 1")
    seed = int(torch.randint(2**62, ())) if seed is None else seed
    written_never = check_never(model, unwritten(model, codec, never))
    rules = processors(sampling, model, written_never)
    prefix = [codec.start] if codec.start else None
    forced = forced_tokens(model, [limit - len(text)], prefix, written_never, with_last=True)
    device = model.head_weight.device
    seen = torch.tensor([text if rules else []], dtype=torch.int64, device=device)
    return Row(
        Request(len(given)),
        given,
        text,
        limit,
        Chooser(sampling, rules, generators_of([seed], device), seen, forced),
        TextStream(codec.target, None if facts.has_source else given[-1], stops, skip=len(codec.start)),
        frozenset() if ignore_eos else frozenset(facts.ends),
    )


def _limit(n_given: int, n_text: int, max_new_tokens: int | None, most: int, *, answers: bool) -> int:
    """Largest number of tokens of the text, the last of which is never read. `answers`: the prompt is a separate
    source."""
    if max_new_tokens is not None and max_new_tokens < 1:
        raise UserError(f"max_new_tokens {max_new_tokens} must be at least 1")
    if n_given > most:
        raise UserError(f"the prompt has {n_given:,} tokens, and the model takes {most:,}")
    wanted = most + 1 if max_new_tokens is None else n_text + max_new_tokens
    if wanted > most + 1 and not answers:
        raise UserError(
            f"prompt and answer are at most {most:,} tokens, and these are {n_text:,} and {max_new_tokens:,}: take a "
            "shorter prompt, or fewer new tokens"
        )
    return min(wanted, most + 1)


def most_tokens(model: DecodingModel, rows: int, wanted: int | None) -> int:
    """Largest number of tokens of a text if there may be `rows` at a time: the wanted number, or `max_seq_len`.

    Raises:
        UserError: half of the free memory does not hold the wanted number, or not even one text.
    """
    context, device = model.facts.context, model.head_weight.device
    with torch.inference_mode():
        cache = model.begin([[model.facts.ends[0] if model.facts.ends else 0]], 1)
    sizes = (tensor.nbytes for tensor in cache.tensors[1:])  # of one token; the first is the length
    room = free_memory(device) / 2 / (sum(sizes) * rows * ROOM)
    most = min(context, model.config.max_seq_len if wanted is None else wanted)
    fits = int(min(room, most))
    if fits < (1 if wanted is None else most):
        raise UserError(f"half of the free memory holds {fits:,} tokens of each of {rows} texts at once: allow fewer")
    return fits
