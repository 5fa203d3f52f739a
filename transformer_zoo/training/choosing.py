"""A recipe for text that comes without one. Sizes follow from the amount of text and from what the machine computes.

The rules come from measurements (docs/notebook.md), most of them on two cores within a quarter of an hour:

- The layers have a third as many weights as tokens that will be seen: 3.2 tokens per weight were best on Multi30k, 3.4
  in the speedrun. The time for N weights and 3N tokens grows with 18 N², so four times the time means twice the
  weights.
- After forty passes a text has nothing more to teach. A small text ends before the time is up, and gets a smaller
  model.
- Dropout depends on the number of passes: none is best for text that is seen once, 0.2 was best at 13 passes of
  Multi30k.
- The number of pieces of pairs grows with the square root of their bytes, as the number of different words does (Heaps'
  law): 5,000 were better than 3,000 on the 1.4 MB of 20,000 pairs of Tatoeba. Text has a piece for each 4,000 bytes
  (4,096 of 20 MB). Below 5 MB of text, bytes and n-grams of up to five bytes learn faster than any pieces.
- There are some 1,500 updates. With more time there are more of them, with more tokens each. With little time there are
  500 of 2,048 tokens: with batches of 512 a core read no more of a model of 128 (3,200 tokens/s, Tatoeba) than of one
  of 160 with 1,024 (3,500).
- Learning rates are proportional to width^-1/2: Multi30k's is 6e-3 at width 160, the text recipes' 1e-2 at 192.
"""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

TOKENS_A_WEIGHT, MOST_PASSES, UPDATES = 3, 40, 1500
USED = 0.5  # share of the measured speed; small layers, the optimizer and validations take the rest
SIZES = (
    (64, 2), (96, 2), (128, 3), (160, 3), (192, 4), (256, 4), (384, 6), (512, 6), (768, 12), (1024, 16), (1536, 24),
)  # fmt: skip
"""Width and depth (of each side of a translation)."""
DROPOUT = ((2, 0.0), (6, 0.1), (30, 0.2), (math.inf, 0.3))
"""Passes over the text, and the dropout for fewer passes than these."""
BYTES_BELOW = 5_000_000
_WORD = re.compile(r"(?<!\w)[^\W\d_]{1,15}(?!\w)")  # each can be a piece, so there are enough


@dataclass(frozen=True)
class Amount:
    """How much text there is to train on: its bytes, its different characters, and its different words made of
    letters."""

    n_bytes: int
    n_characters: int
    n_words: int


@dataclass(frozen=True)
class Size:
    """A model, and how it is trained in the available time."""

    width: int
    depth: int
    weights: int
    tokens: float
    passes: float
    update_tokens: int

    @property
    def dropout(self) -> float:
        return next(rate for passes, rate in DROPOUT if self.passes < passes)


@dataclass(frozen=True)
class Section:
    """A section of a recipe, and the reason for it."""

    name: str
    fields: Any
    why: str = ""

    @property
    def yaml(self) -> str:
        flow = None if isinstance(self.fields, dict) else False
        line = yaml.safe_dump({self.name: self.fields}, sort_keys=False, default_flow_style=flow, width=100)
        return f"# {self.why}\n{line}" if self.why else line


def amount_of(texts: Iterable[str]) -> Amount:
    """The amount of all these texts. Characters and words are counted in the first 50 MB."""
    n_bytes, characters, words = 0, set[str](), set[str]()
    for text in texts:
        if n_bytes < 50_000_000:
            characters.update(text)
            words.update(_WORD.findall(text))
        n_bytes += len(text.encode())
    return Amount(n_bytes, len(characters), len(words))


def size_for(operations: float, text_tokens: float, *, each: int, vocab_size: int) -> Size:
    """The model for this many floating-point operations and this much text.

    Args:
        operations: Operations in the available time.
        text_tokens: Number of tokens of the training text.
        each: Weights of a layer (of both sides), as multiples of its squared width.
        vocab_size: Number of rows of the output projection, which every token is multiplied by too.
    """
    most = MOST_PASSES * text_tokens
    wanted = min(math.sqrt(operations / (6 * TOKENS_A_WEIGHT)), most / TOKENS_A_WEIGHT)
    width, depth = min(SIZES, key=lambda size: abs(math.log(each * size[0] ** 2 * size[1] / wanted)))
    weights = each * width**2 * depth
    tokens = min(operations / (6 * (weights + vocab_size * width)), most)
    least = 10 if tokens < 500 * 2048 else 11
    update_tokens = 2 ** min(max(math.floor(math.log2(tokens / UPDATES)), least), 17)
    return Size(width, depth, weights, tokens, tokens / text_tokens, update_tokens)


def translation(data: Mapping[str, Any], amount: Amount, operations: float, minutes: float, most: int) -> list[Section]:
    """The sections for sentence pairs of this many bytes, both sides together; `most` tokens fit a micro-batch."""
    vocab_size = 4 + amount.n_characters + min(4 * math.isqrt(amount.n_bytes), amount.n_words, 32_000)
    size = size_for(operations, amount.n_bytes / 2 / 4, each=28, vocab_size=vocab_size)
    model = {
        "preset": "transformer-small",
        "d_model": size.width,
        "d_ff": 4 * size.width,
        "n_heads": size.width // (32 if size.width < 256 else 64),
        "n_encoder_layers": size.depth,
        "n_decoder_layers": size.depth,
        "norm_position": "pre",
        "dropout": size.dropout,
    }
    # Two micro-batches an update, so that it has pairs of two lengths and not of one.
    batch, rate = min(size.update_tokens // 2, most), round(0.076 / math.sqrt(size.width), 5)
    every = _every(size)
    return [
        Section("data", dict(data)),
        Section(
            "tokenizer",
            {"vocab_size": vocab_size},
            "a piece for each character, and 4 times the square root of the bytes",
        ),
        Section("model", model, _of_model(f"{size.depth} + {size.depth} layers", size)),
        Section("optimizer", {"name": "muon", "lr": rate, "weight_decay": 0.1}, "the learning rate goes by the width"),
        Section(
            "training",
            {"batch_tokens": batch, "update_tokens": size.update_tokens, **_limits(size, minutes)},
            _of_training(size, minutes),
        ),
        Section("validation", {"every": every, "bleu_sentences": 100}),
        Section("checkpoint", {"every": every, "average_last": 1}),
        Section("test", {"beam": 5, "length_penalty": 1.0}),
    ]


def language(data: Mapping[str, Any], amount: Amount, operations: float, minutes: float, most: int) -> list[Section]:
    """The sections for text of this many bytes; `most` tokens fit a micro-batch."""
    in_bytes = amount.n_bytes < BYTES_BELOW
    pieces = min(amount.n_bytes // 4000, amount.n_words)
    trained = 256 + amount.n_characters + 2 ** int(math.log2(min(max(pieces, 256), 32_768)))
    vocab_size = 257 if in_bytes else -(-trained // 64) * 64
    size = size_for(operations, amount.n_bytes / (1 if in_bytes else 4), each=12, vocab_size=vocab_size)
    length = next(length for weights, length in ((1e7, 256), (5e7, 512), (math.inf, 1024)) if size.weights < weights)
    model = {
        "preset": "gpt-modern",
        "d_model": size.width,
        "d_ff": 4 * size.width,
        "n_heads": size.width // (32 if size.width % 64 else 64),
        "n_layers": size.depth,
        "dropout": size.dropout,
    }
    rate = 0.14 / math.sqrt(size.width)
    tokenizer: dict[str, Any] = {"kind": "sentencepiece", "vocab_size": vocab_size}
    why, ratio = "a piece for each 4,000 bytes", 0.4
    if in_bytes:
        model["ngrams"] = {"n": 5, "rows": 8192}
        tokenizer, why, ratio = {"kind": "bytes"}, "so little text is learnt fastest byte by byte, with n-grams", 0.85
    optimizer = {"name": "muon", "lr": round(rate, 5), "adam_lr": round(ratio * rate, 5), "betas": [0.9, 0.95]}
    every = _every(size)
    return [
        Section("data", {**data, "length": length}),
        Section("tokenizer", tokenizer, why),
        Section("model", model, _of_model(f"{size.depth} layers", size)),
        Section("optimizer", {**optimizer, "weight_decay": 0.1}, "the learning rate goes by the width"),
        Section(
            "training",
            {"batch_tokens": min(size.update_tokens, max(most, length)), "update_tokens": size.update_tokens}
            | _limits(size, minutes),
            _of_training(size, minutes),
        ),
        Section("validation", {"every": every, "sample_tokens": 200}),
        Section("checkpoint", {"every": every, "average_last": 1}),
    ]


def _every(size: Size) -> int:
    """Number of updates between two validations: the run has about ten."""
    return max(round(size.tokens / size.update_tokens / 10), 10)


def _limits(size: Size, minutes: float) -> dict[str, Any]:
    passes = {"max_epochs": MOST_PASSES} if size.passes >= MOST_PASSES else {}
    more = {"max_updates": 10_000_000} if size.tokens / size.update_tokens > 50_000 else {}
    return {**passes, "max_minutes": minutes, **more}


def _of_model(layers: str, size: Size) -> str:
    return (
        f"{layers} of {size.width}: {size.weights:,} weights for about {size.tokens:,.0f} tokens; "
        f"dropout for {size.passes:.2g} passes over the text"
    )


def _of_training(size: Size, minutes: float) -> str:
    if size.passes >= MOST_PASSES:
        return f"{MOST_PASSES} passes are all that so little text has to teach, or {minutes:g} minutes"
    return f"{minutes:g} minutes, in which the learning rate comes down to 0"
