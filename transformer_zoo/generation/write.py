"""Text in, text out: what a decoder-only model writes, as soon as it is certain."""

import codecs
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Unpack

from transformer_zoo.errors import UserError
from transformer_zoo.generation.generate import End, GenerateOptions, generate_stream
from transformer_zoo.models import DecoderOnly, check_decoder_only
from transformer_zoo.tokenizers.tokenizer import Tokenizer


class NewText(NamedTuple):
    """What to add to answer `row`; `end` says why it is the last of it."""

    row: int
    text: str
    end: End | None = None


class TextStream:
    """Tokens in, text out, but for what may still change.

    Held back are bytes that are no whole character yet, and an end of the text that may become a stop string.

    Args:
        tokenizer: of the tokens.
        before: the token that the first one follows.
        stops: strings that end the text; none of them, and nothing after one, is ever given out.
    """

    def __init__(self, tokenizer: Tokenizer, before: int, stops: Sequence[str] = ()) -> None:
        self.tokenizer, self.last, self.stops = tokenizer, before, stops
        self.characters = codecs.getincrementaldecoder("utf-8")("replace")
        self.held = ""
        self.is_stopped = False

    def add(self, token: int) -> bool:
        """Take one more token; whether a stop string is complete."""
        known = self.tokenizer.decode_bytes([self.last])
        new = self.tokenizer.decode_bytes([self.last, token])[len(known) :]
        self.last = token
        return self._look(self.characters.decode(new))

    def take(self, *, last: bool = False) -> str:
        """What is certain and was not taken before; at the last of it, all there is."""
        if last and not self.is_stopped:
            self._look(self.characters.decode(b"", final=True))
        n_held = 0 if last or self.is_stopped else _held_back(self.held, self.stops)
        certain, self.held = self.held[: len(self.held) - n_held], self.held[len(self.held) - n_held :]
        return certain

    def _look(self, text: str) -> bool:
        self.held += text
        found = [(self.held.find(stop) + len(stop), self.held.find(stop)) for stop in self.stops if stop in self.held]
        if found:  # the one that is complete first, so that it does not matter how the text is cut into tokens
            self.held, self.is_stopped = self.held[: min(found)[1]], True
        return self.is_stopped


def _held_back(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of a text may be the beginning of a stop string."""
    longest = max(map(len, stops), default=1) - 1
    ends = (n for n in range(min(longest, len(text)), 0, -1) if any(stop.startswith(text[-n:]) for stop in stops))
    return next(ends, 0)


def write(
    model: DecoderOnly,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    stops: Sequence[str] = (),
    **options: Unpack[GenerateOptions],
) -> Iterator[NewText]:
    """What follows each prompt, piece by piece, those of all prompts in turn.

    Args:
        model, tokenizer: as `load_run` gives them.
        prompts: text; an empty one begins a new text.
        stops: strings that end an answer; they are not part of it.
        options: as for `generate_stream`, but for `stop`; without `never`, the tokenizer's `special_ids` are not
            written.

    Raises:
        UserError: as `generate_stream`, and for a prompt that the vocabulary cannot spell.
    """
    check_decoder_only(model, "write")
    if "" in stops:
        raise UserError("a stop string is empty: it would stop before the first token")
    rows = [encode_prompt(model, tokenizer, prompt) for prompt in prompts]
    texts = [TextStream(tokenizer, row[-1], stops) for row in rows]

    def stop(row: int, token: int) -> bool:
        return texts[row].add(token)

    options["stop"] = stop
    options.setdefault("never", tokenizer.special_ids)
    for row, _, end in generate_stream(model, rows, **options):
        text = texts[row].take(last=end is not None)
        if text or end:
            yield NewText(row, text, end)


def first_token(model: DecoderOnly) -> int | None:
    """What a text starts with: the model's own token for that, else the end of the text before; None without both."""
    check_decoder_only(model, "first_token")
    return model.config.eos_id if model.config.bos_id is None else model.config.bos_id


def encode_prompt(model: DecoderOnly, tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a prompt, after the tokenizer's `start_ids`; of one without any the model's `first_token`.

    Raises:
        UserError: a prompt that the vocabulary cannot spell, or an empty one with nothing to start from.
    """
    check_decoder_only(model, "encode_prompt")
    if ids := [*tokenizer.start_ids, *tokenizer.encode(text)]:
        return ids
    if (first := first_token(model)) is None:
        raise UserError("the prompt is empty, and this model has no token that a text starts with: give some text")
    return [first]
