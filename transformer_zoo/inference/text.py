"""Text in, text out: what a model writes, as soon as it is certain."""

import codecs
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from transformer_zoo.config import Sampling
from transformer_zoo.errors import UserError
from transformer_zoo.inference.codec import Codec, Tokenizers, codec_of
from transformer_zoo.inference.engine import Steps
from transformer_zoo.inference.generation import End, generate_stream
from transformer_zoo.inference.speculation import Speculation
from transformer_zoo.models import DecodingModel, check_decoding
from transformer_zoo.tokenizers.tokenizer import Tokenizer


class NewText(NamedTuple):
    """The text to add to answer `row`; `end` says why it is the last, if it is."""

    row: int
    text: str
    end: End | None = None


class TextStream:
    """Tokens in, text out, except for text that may still change.

    It holds back bytes that are not a whole character yet, and an end of the text that may become a stop string.

    Args:
        tokenizer: of the tokens.
        before: the token that the first one follows; None: the first one begins a text.
        stops: strings that end the text; no stop string, and nothing after one, is ever returned.
        skip: number of tokens at the beginning that are not text.
    """

    def __init__(self, tokenizer: Tokenizer, before: int | None, stops: Sequence[str] = (), *, skip: int = 0) -> None:
        self.tokenizer, self.stops, self.skip = tokenizer, stops, skip
        self.last = [] if before is None else [before]
        self.characters = codecs.getincrementaldecoder("utf-8")("replace")
        self.held = ""
        self.is_stopped = False

    def add(self, token: int) -> bool:
        """Take one more token; returns whether a stop string is complete."""
        if self.skip:
            self.skip -= 1
            return False
        known = self.tokenizer.decode_bytes(self.last) if self.last else b""
        new = self.tokenizer.decode_bytes([*self.last, token])[len(known) :]
        self.last = [token]
        return self._look(self.characters.decode(new))

    def take(self, *, last: bool = False) -> str:
        """The text that is certain and was not taken before; at the end, all text that is left."""
        if last and not self.is_stopped:
            self._look(self.characters.decode(b"", final=True))
        n_held = 0 if last or self.is_stopped else _held_back(self.held, self.stops)
        certain, self.held = self.held[: len(self.held) - n_held], self.held[len(self.held) - n_held :]
        return certain

    def _look(self, text: str) -> bool:
        self.held += text
        if any(stop in self.held for stop in self.stops):
            self.held, self.is_stopped = before_stop(self.held, self.stops), True
        return self.is_stopped


def before_stop(text: str, stops: Sequence[str]) -> str:
    """The text before the stop string that is complete first, however the text is cut into tokens."""
    found = [(text.find(stop) + len(stop), text.find(stop)) for stop in stops if stop in text]
    return text[: min(found)[1]] if found else text


def _held_back(text: str, stops: Sequence[str]) -> int:
    """How many characters at the end of a text may be the beginning of a stop string."""
    longest = max(map(len, stops), default=1) - 1
    ends = (n for n in range(min(longest, len(text)), 0, -1) if any(stop.startswith(text[-n:]) for stop in stops))
    return next(ends, 0)


def write(
    model: DecodingModel,
    tokenizer: Tokenizers,
    prompts: Sequence[str],
    sampling: Sampling = Sampling(),
    *,
    stops: Sequence[str] = (),
    max_new_tokens: int = 200,
    seed: int | None = None,
    never: Collection[int] | None = None,
    ignore_eos: bool = False,
    speculation: Speculation = Speculation(),
    steps: Steps = Steps(),
) -> Iterator[NewText]:
    """The continuation or translation of each prompt, piece by piece; the pieces of all prompts alternate.
    >>> [*write(gpt, letters, ["Once"], max_new_tokens=5)][-1].end
    'length'

    Args:
        model, tokenizer: as `load_run` returns them.
        prompts: texts; an empty one begins a new text.
        sampling: how the next token is drawn.
        stops: strings that end an answer, in addition to those of the model's configuration; they are not part of it.
        max_new_tokens, seed, ignore_eos, speculation, steps: as for `generate_stream`.
        never: tokens that are not written; None: the tokenizer's `special_ids`, or for an encoder-decoder those of its
            configuration.

    Raises:
        UserError: as for `generate_stream`, or the vocabulary cannot spell a prompt.
    """
    check_decoding(model, "write")
    codec = codec_of(model, tokenizer)
    yield from answer(
        model,
        codec,
        codec.encode(prompts),
        sampling,
        stops=stops,
        max_new_tokens=max_new_tokens,
        seed=seed,
        never=never,
        ignore_eos=ignore_eos,
        speculation=speculation,
        steps=steps,
    )


def answer(
    model: DecodingModel,
    codec: Codec,
    given: Sequence[list[int]],
    sampling: Sampling,
    *,
    stops: Sequence[str] = (),
    max_new_tokens: int = 200,
    seed: int | None = None,
    never: Collection[int] | None = None,
    ignore_eos: bool = False,
    speculation: Speculation = Speculation(),
    steps: Steps = Steps(),
) -> Iterator[NewText]:
    """`write` for ids, such as `codec` returns them."""
    stops = stop_strings(model, stops)
    has_source = model.facts.has_source
    texts = [TextStream(codec.target, None if has_source else row[-1], stops, skip=len(codec.start)) for row in given]
    tokens = generate_stream(
        model,
        given,
        sampling,
        max_new_tokens=max_new_tokens,
        seed=seed,
        never=unwritten(model, codec, never),
        prefix=[codec.start] * len(given) if codec.start else None,
        ignore_eos=ignore_eos,
        stop=lambda row, token: texts[row].add(token),
        speculation=speculation,
        steps=steps,
    )
    for row, _, end in tokens:
        text = texts[row].take(last=end is not None)
        if text or end:
            yield NewText(row, text, end)


def stop_strings(model: DecodingModel, stops: Sequence[str]) -> list[str]:
    """These stop strings and those of the model's configuration. UserError: one is empty."""
    found = [*stops, *(model.facts.rules.stop_strings or ())]
    if "" in found:
        raise UserError("a stop string is empty: it would stop before the first token")
    return found


def unwritten(model: DecodingModel, codec: Codec, never: Collection[int] | None) -> Collection[int] | None:
    """The tokens that are not written: `never` if it is given; otherwise the model's, and the special tokens of
    prompts."""
    if never is None and not model.facts.has_source:
        return {*model.facts.never, *codec.target.special_ids}
    return never
