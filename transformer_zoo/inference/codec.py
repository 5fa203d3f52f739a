"""From text to the ids that a model is given, and from the ids that it writes to text."""

from collections.abc import Iterator, Sequence
from typing import Any

from transformer_zoo.errors import UserError
from transformer_zoo.inference.splitting import Cutter, Parts
from transformer_zoo.models import DecodingModel, check_decoding
from transformer_zoo.tokenizers.tokenizer import Tokenizer
from transformer_zoo.tokenizers.translation import TranslationTokenizer

Tokenizers = Tokenizer | TranslationTokenizer
Pair = tuple[list[int], list[int]]
"""Token ids of a source or a prompt, and of the answer."""


class TranslationCodec:
    """For an encoder-decoder: a source ends as in training, and a target has an end.

    Attributes:
        target: the tokenizer for answers.
        start: ids that every answer starts with, such as a language's tag.
    """

    def __init__(self, model: DecodingModel, tokenizer: TranslationTokenizer) -> None:
        self.source, self.target, config = tokenizer.source, tokenizer.target, model.config
        self.source_end, self.end = config.source_end, config.eos_id
        [self.start] = self.target.encode_batch([""])

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """The ids that the model is given for each text."""
        return [[*ids, self.source_end] for ids in self.source.encode_batch(texts)]

    def encode_pairs(self, sources: Sequence[str], targets: Sequence[str]) -> list[Pair]:
        """The ids of each source, and of its target as the model would write it, `start` and end included."""
        return self.answers(list(zip(self.encode(sources), targets, strict=True)))

    def answers(self, texts: Sequence[tuple[list[int], str]]) -> list[Pair]:
        """The ids of the question and of the answer, `start` and end included."""
        ids = self.target.encode_batch([text for _, text in texts])
        return [(given, [*answer, self.end]) for (given, _), answer in zip(texts, ids, strict=True)]

    def cut(self, texts: Sequence[str], cutter: Cutter) -> Iterator[tuple[list[list[int]], str]]:
        """The ids of each text in pieces, and how the text was cut; an empty text has no pieces."""
        [nothing] = self.encode([""])
        for text, ids in zip(texts, self.encode(texts), strict=True):
            if cutter.is_long(len(ids)):
                parts = self.parts(text, cutter)
                yield self.encode(parts.texts), parts.how
            else:
                yield [] if ids == nothing else [ids], ""

    def bare(self, text: str) -> str:
        """The text without the language tag at its beginning."""
        return text.removeprefix(self.source.tag_of(text))

    def parts(self, text: str, cutter: Cutter) -> Parts:
        """The parts of a text that are translated separately, each with the text's tag."""
        tag, bare = self.source.tag_of(text), self.bare(text)

        def count(part: str) -> int:
            return len(self.encode([tag + part])[0])

        if not cutter.is_long(count(bare)):
            return Parts([text])
        cut = cutter.cut(bare.strip(), count)
        return Parts([tag + part for part in cut.texts], cut.how)

    def decode(self, given: Sequence[int], written: Sequence[int]) -> str:
        """The text of the answer to what was given."""
        return self.target.decode(written)


class PromptCodec:
    """For a decoder-only model, with the same attributes and methods. An answer continues its prompt."""

    def __init__(self, model: DecodingModel, tokenizer: Tokenizer) -> None:
        self.model, self.target, self.start = model, tokenizer, list[int]()

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        return [encode_prompt(self.model, self.target, text) for text in texts]

    def encode_pairs(self, sources: Sequence[str], targets: Sequence[str]) -> list[Pair]:
        pairs = []
        for source, target in zip(sources, targets, strict=True):
            whole, given = self.encode([source + target, source])
            same = next((n for n, (a, b) in enumerate(zip(whole, given, strict=False)) if a != b), len(given))
            pairs.append((whole[: max(same, 1)], whole[max(same, 1) :]))
        return pairs

    def cut(self, texts: Sequence[str], cutter: Cutter) -> Iterator[tuple[list[list[int]], str]]:
        for text in texts:
            yield self.encode([text]) if text else [], ""

    def bare(self, text: str) -> str:
        return text

    def parts(self, text: str, cutter: Cutter) -> Parts:
        return Parts([text])

    def decode(self, given: Sequence[int], written: Sequence[int]) -> str:
        known = self.target.decode_bytes(given[-1:])
        return self.target.decode_bytes([*given[-1:], *written])[len(known) :].decode("utf-8", "replace")


Codec = TranslationCodec | PromptCodec


def codec_of(model: DecodingModel, tokenizer: Tokenizers) -> Codec:
    """The codec for a model and its tokenizer, as `load_run` returns them."""
    wanted = "a TranslationTokenizer" if model.facts.has_source else "a Tokenizer"
    if hasattr(tokenizer, "source") != model.facts.has_source:
        raise UserError(f"the tokenizer is a {type(tokenizer).__name__}, and the model takes {wanted}")
    codec: Any = TranslationCodec if model.facts.has_source else PromptCodec
    made: Codec = codec(model, tokenizer)
    return made


def first_token(model: DecodingModel) -> int | None:
    """The token that a text starts with: the model's own, otherwise the end of the previous text; None without both.
    >>> first_token(translator) == translator.config.bos_id
    True
    """
    check_decoding(model, "first_token")
    config = model.config
    first: int | None = config.eos_id if config.bos_id is None else config.bos_id
    return first


def encode_prompt(model: DecodingModel, tokenizer: Tokenizer, text: str) -> list[int]:
    """Ids of a prompt after the tokenizer's `start_ids`; without any, after the model's `first_token`.
    >>> encode_prompt(gpt, letters, "Hi")
    [72, 105]

    Raises:
        UserError: the vocabulary cannot spell the prompt, or it is empty and there is no token to start from.
    """
    if ids := [*tokenizer.start_ids, *tokenizer.encode(text)]:
        return ids
    if (first := first_token(model)) is None:
        raise UserError("the prompt is empty, and this model has no token that a text starts with: give some text")
    return [first]
