"""Writing with a decoder-only model: tokens in, tokens out, many texts at once."""

import operator
from collections.abc import Callable, Collection, Iterator, Sequence, Set
from typing import Literal, NamedTuple, TypedDict, Unpack

import torch
from torch import Tensor

from transformer_zoo.errors import UserError
from transformer_zoo.generation.guesser import Guesser
from transformer_zoo.generation.inference import evaluating
from transformer_zoo.generation.lookup import Lookup
from transformer_zoo.generation.reader import Reader
from transformer_zoo.generation.sampling import Sampling
from transformer_zoo.models import DecoderOnly, check_decoder_only, check_draft

_SEEDS = 2**63
_NOT_FINITE = -1  # in place of a token
End = Literal["eos", "stop", "length"]


class NewToken(NamedTuple):
    """The next token of row `row`; `end` says why it is the last one."""

    row: int
    token: int
    end: End | None = None


class GenerateOptions(TypedDict, total=False):
    """What `generate` takes as `generate_stream` does."""

    max_new_tokens: int
    temperature: float
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float
    seed: int | None
    ignore_eos: bool
    stop: Callable[[int, int], bool] | None
    stride: int | None
    cache: bool
    static: bool | None
    compile: bool
    lookup: int
    draft: DecoderOnly | None
    never: Collection[int]


def generate(
    model: DecoderOnly, prompts: Sequence[Sequence[int]] | Tensor, **options: Unpack[GenerateOptions]
) -> list[list[int]]:
    """What follows each prompt, as token ids: without the prompt, and without the end-of-text that ended it.

    Args:
        model: any mode; it is put into evaluation mode while it is used.
        prompts: token ids, rows of different length or (B, T).
        options: as for `generate_stream`, with the same errors.
    """
    check_decoder_only(model, "generate")
    answers: list[list[int]] = [[] for _ in prompts]
    for row, token, end in generate_stream(model, prompts, **options):
        if end != "eos":
            answers[row].append(token)
    return answers


def generate_stream(
    model: DecoderOnly,
    prompts: Sequence[Sequence[int]] | Tensor,
    *,
    max_new_tokens: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    repetition_penalty: float = 1.0,
    seed: int | None = None,
    ignore_eos: bool = False,
    stop: Callable[[int, int], bool] | None = None,
    stride: int | None = None,
    cache: bool = True,
    static: bool | None = None,
    compile: bool = False,
    lookup: int = 8,
    draft: DecoderOnly | None = None,
    never: Collection[int] = (),
) -> Iterator[NewToken]:
    """Tokens as they come: at each step one for every row that has not ended.

    What a row gets does not depend on the others. Where prompt and answer are longer than `max_seq_len`, the model
    reads the last part of them, whatever its positions: see `stride`.

    Args:
        model, prompts: as for `generate`.
        max_new_tokens: of each row.
        temperature: logits are divided by it; 0 takes the likeliest token, the first one where several are.
        top_k: draw from the k likeliest.
        top_p: draw from the fewest that together have this probability.
        min_p: draw from those at least this times as likely as the likeliest.
        repetition_penalty: above 1, tokens of the prompt and the answer become less likely.
        seed: row i draws with seed + i, so that it can be had again alone; None: another one each time, by torch's
            generator.
        ignore_eos: `config.eos_id` and `stop_ids` are tokens as any other, and do not end a row.
        stop: asked with row and token after each; True ends the row.
        stride: past `max_seq_len` the context moves so many tokens at a time, and is read again each time. 1: every
            token is drawn knowing the `max_seq_len` before it, and costs the reading of them. None: a quarter of
            `max_seq_len`; a token is drawn knowing at least three quarters.
        cache: remember keys and values instead of computing them again for every token.
        static: every step has the same shapes, and on a GPU it is captured; None: on a GPU.
        compile: compile that step.
        lookup: where one row is left, with a cache and steps that are not static, guess up to so many tokens: those
            that followed the last three when they stood there before. A guess is read in one piece, and what would not
            have been chosen anyway is dropped: the more a text repeats itself the faster it is written.
            0: never guess.
        draft: `quantize(model)`; where guesses are possible, and `lookup` has none that is as good, it writes them. On
            a CPU reading weights is what takes time, and it reads a quarter of the bytes. With temperature 0 it also
            finds the likeliest token of each of several rows, and reads a quarter or half of the head's.
        never: tokens that are not written, however likely.

    Raises:
        UserError: an encoder-decoder, an option out of range, a draft of another model or of weights that have changed
            since, a prompt that is empty or no text of this model, or logits that are not
            finite.
    """
    check_decoder_only(model, "generate")
    if lookup < 0:
        raise UserError(f"lookup {lookup} must be at least 0")
    if seed is not None and not 0 <= seed < _SEEDS:
        raise UserError(f"seed {seed} must be from 0 to 2^63 - 1")
    check_draft(model, draft)
    if compile and model.head_weight.is_mkldnn:
        raise UserError("a packed model cannot be compiled: give one that is not packed")
    rows = _rows(prompts)
    _check(model, rows, max_new_tokens)
    if outside := [token for token in never if not 0 <= token < model.config.vocab_size]:
        raise UserError(f"never contains {outside[0]}, outside the vocabulary of {model.config.vocab_size}")
    sampling = Sampling(
        temperature=temperature, top_k=top_k, top_p=top_p, min_p=min_p, repetition_penalty=repetition_penalty
    )
    device = model.head_weight.device
    reader = Reader(
        model,
        longest=max(map(len, rows), default=0) + max_new_tokens,
        stride=max(model.config.max_seq_len // 4, 1) if stride is None else stride,
        cache=cache,
        draft=draft,
        greedy=sampling.takes_highest,
        never=never,
        static=device.type == "cuda" if static is None else static,
        compile=compile,
    )
    seed = int(torch.randint(2**62, ())) if seed is None else seed
    generators = [torch.Generator(device).manual_seed((seed + i) % _SEEDS) for i in range(len(rows))]
    ends = set() if ignore_eos else {model.config.eos_id, *(model.config.stop_ids or ())}
    limits = [len(row) + max_new_tokens for row in rows]
    return _Writing(reader, rows, limits, sampling, generators, ends, stop, Lookup(lookup)).tokens()


class _Writing:
    """Rows that grow, token by token, until each has ended.

    Args:
        reader: gives the next tokens' logits.
        rows: the prompts; what is written is appended to them.
        limits: of the length of each row.
        sampling, generators: how a token is chosen, by each row's own generator.
        ends: tokens that end a row.
        stop: as for `generate_stream`.
        lookup: for guesses.
    """

    def __init__(
        self,
        reader: Reader,
        rows: list[list[int]],
        limits: Sequence[int],
        sampling: Sampling,
        generators: Sequence[torch.Generator],
        ends: Set[int | None],
        stop: Callable[[int, int], bool] | None,
        lookup: Lookup,
    ) -> None:
        self.reader, self.rows, self.limits = reader, rows, limits
        self.sampling, self.generators = sampling, generators
        self.ends, self.stop = ends, stop
        self.live = list(range(len(rows)))
        penalizes = sampling.repetition_penalty != 1
        self.seen = _seen(rows, reader.model.config.vocab_size, reader.device) if penalizes else None  # (live, V)
        self.guesser = Guesser(lookup, None if reader.draft_model is None else self._draft)

    @torch.inference_mode()
    def tokens(self) -> Iterator[NewToken]:
        """All of them, as they come."""
        while self.live:
            places = list(range(len(self.live)))  # of the rows that go on, among those that were read
            for column in self._columns():
                if any(column[i] == _NOT_FINITE for i in places):
                    raise UserError("the model's logits are not finite: its weights are damaged, or too narrow a dtype")
                new = [self._append(self.live[i], column[i]) for i in places]
                yield from new
                places = [i for i, token in zip(places, new, strict=True) if token.end is None]
                if not places:
                    break
            self._keep(places)

    def _columns(self) -> Iterator[list[int]]:
        """The next tokens of the live rows, B at a time: as many as can be chosen before anybody has to look."""
        rows = [self.rows[i] for i in self.live]
        guess = self.guesser.guess(rows[0], self.reader.room) if len(rows) == 1 else []
        missing = max(self.limits[i] - len(self.rows[i]) for i in self.live)
        with evaluating(self.reader.model, torch.float32):
            logits = self.reader.read(rows, guess)  # (B, 1 + G, V)
            chosen = [self._choose(logits[:, 0])]
            for _ in range(self.reader.ahead(missing - 1)):
                logits = self.reader.go_on(chosen[-1].clamp_min(0))  # (B, 1, V)
                chosen.append(self._choose(logits[:, 0]))
        yield from look(chosen)
        if guess:
            yield from self._guessed(guess, logits)

    def _guessed(self, guess: list[int], logits: Tensor) -> Iterator[list[int]]:
        """What follows the token that was chosen first, as far as the guess is right: logits (1, 1 + G, V)."""
        [row] = self.live
        right, length = 0, len(self.rows[row]) - 1
        try:
            while right < len(guess) and self.rows[row][-1] == guess[right]:
                right += 1
                yield from look([self._choose(logits[:, right])])
        finally:  # the text may end within the guess
            self.reader.drop(len(guess) - right)
            self.guesser.learn(self.rows[row][length:])

    def _choose(self, logits: Tensor) -> Tensor:
        """The next token of each live row, by its logits (B, V): (B,)."""
        chosen = self.sampling.choose(logits, [self.generators[i] for i in self.live], self.seen)[:, None]  # (B, 1)
        if self.seen is not None:
            self.seen.scatter_(1, chosen, True)
        # Where there is a NaN or an infinity, it is chosen.
        return chosen.where(logits.gather(1, chosen).isfinite(), _NOT_FINITE)[:, 0]

    def _append(self, row: int, token: int) -> NewToken:
        self.rows[row].append(token)
        if token in self.ends:
            return NewToken(row, token, "eos")
        if self.stop is not None and self.stop(row, token):
            return NewToken(row, token, "stop")
        return NewToken(row, token, "length" if len(self.rows[row]) == self.limits[row] else None)

    def _keep(self, kept: list[int]) -> None:
        """Of the live rows these go on."""
        if kept and len(kept) < len(self.live):
            self.reader.keep(kept)
            self.seen = None if self.seen is None else self.seen[kept]
        self.live = [self.live[place] for place in kept]

    def _draft(self, n: int) -> list[int]:
        """As the only row would go on: drawn with the same noise as its next tokens."""
        generator = self.generators[self.live[0]].clone_state()
        seen = None if self.seen is None else self.seen.clone()

        def choose(logits: Tensor) -> Tensor:
            chosen = self.sampling.choose(logits, [generator], seen)
            if seen is not None:
                seen.scatter_(1, chosen[:, None], True)
            return chosen

        return self.reader.draft(self.rows[self.live[0]][-1], n, choose)


def look(chosen: Sequence[Tensor]) -> list[list[int]]:
    """Waits for tokens, (B,) each time."""
    columns: list[list[int]] = torch.stack(list(chosen)).tolist()
    return columns


def _seen(rows: list[list[int]], vocab_size: int, device: torch.device) -> Tensor:
    """(B, V) booleans: the tokens of each row."""
    seen = torch.zeros(len(rows), vocab_size, dtype=torch.bool)
    for row, tokens in zip(seen, rows, strict=True):
        row[tokens] = True
    return seen.to(device)


def _rows(prompts: Sequence[Sequence[int]] | Tensor) -> list[list[int]]:
    rows = prompts.tolist() if isinstance(prompts, Tensor) else prompts
    try:
        if any(isinstance(token, bool) for row in rows for token in row):
            raise TypeError
        return [[operator.index(token) for token in row] for row in rows]
    except TypeError:  # a row that is a number, or a token that is none
        raise UserError("prompts are rows of token ids, such as [[5, 7, 7], [2]]") from None


def _check(model: DecoderOnly, rows: list[list[int]], max_new_tokens: int) -> None:
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens {max_new_tokens} must be at least 1")
    size = model.config.vocab_size
    for number, row in enumerate(rows, start=1):
        if not row:
            raise UserError(f"prompt {number} is empty: begin with a token, such as the end of the text before")
        if not 0 <= min(row) <= max(row) < size:
            raise UserError(f"prompt {number} has a token outside the vocabulary of {size}")
