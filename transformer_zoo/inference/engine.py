"""Logits of the next token for texts that grow by a token at a time. A cache holds what was read already.

Shapes: B rows, T tokens of the longest context, V vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from torch import Tensor

from transformer_zoo.errors import UserError
from transformer_zoo.inference.modes import look_every
from transformer_zoo.inference.packing import highest_logits
from transformer_zoo.inference.plain import context_start
from transformer_zoo.models import DecoderCache, DecodingModel, pad_rows

CAPACITY = 256
"""The capacity of a static cache is a multiple of this, so its step is compiled once for texts of similar length."""


class Kept:
    """What was read of one text, kept for the next: the beginning that both share is not read again.

    It is for one text after another, by one model whose weights do not change, and without static steps.
    >>> kept = Kept()
    >>> [answer] = generate(gpt, [[5, 7]], steps=Steps(kept=kept))
    >>> [other] = generate(gpt, [[5, 7, *answer, 6]], steps=Steps(kept=kept))
    """

    def __init__(self) -> None:
        self.text: Sequence[int] = ()
        self.cache: DecoderCache | None = None

    def begin(self, text: Sequence[int], cache: DecoderCache) -> int:
        """Copy the shared beginning into a new cache for a growing text, and keep that cache; returns its number of
        tokens."""
        n = 0
        if self.cache is not None:
            read = min(layer.length for layer in self.cache.layers)  # which differ if it was interrupted
            pairs = zip(self.text[:read], text[:-1], strict=False)
            n = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
            cache.take(self.cache, n)
        self.text, self.cache = text, cache
        return n


@dataclass(frozen=True, kw_only=True)
class Steps:
    """How the steps are taken.
    >>> [answer] = generate(gpt, [[5, 7]], max_new_tokens=70, steps=Steps(stride=1))

    Args:
        stride: A text that continues a prompt may outgrow the model's `max_seq_len`. Then the model reads the last part
            of it. This part moves by `stride` tokens at a time, and is read again each time. With 1, every token is
            drawn from the `max_seq_len` tokens before it, and costs reading them. None: a quarter of `max_seq_len`, so
            that a token is drawn from at least three quarters of it.
        static: Every step has the same shapes, and on a GPU it is captured. None: only on a GPU.
        compile: Whether to compile that step.
        dtype: Type of the matrix products: float32, or bfloat16 or float16 by autocast.
        kept: What was read of a text before; only when one text is written.
    """

    stride: int | None = None
    static: bool | None = None
    compile: bool = False
    dtype: torch.dtype = torch.float32
    kept: Kept | None = None


class Engine:
    """Reads rows of different length side by side, each as if it were alone.

    Rows are padded on the left. A row that outgrows the context is read again from its new `context_start`, because
    cached keys and values depend on the tokens before it, and learned positions end.

    Args:
        model: a model in evaluation mode.
        given: the prompts or sources of the rows.
        longest: the number of tokens that no row will exceed.
        how: with static steps the cache shows attention its whole capacity, and rows that have ended stay in it. So
            every step has the same shapes; on a GPU it is captured and repeated without Python. It is compiled as one
            graph for each number of rows, padded or not, and each multiple of `CAPACITY`.
        draft: a cheaper model that drafts tokens; it uses the model's cache as its own.
        is_greedy: only the highest logit of each row counts. A draft computes it sooner, and other logits may be
            rounded.
    """

    def __init__(
        self,
        model: DecodingModel,
        given: Sequence[Sequence[int]],
        longest: int,
        how: Steps = Steps(),
        *,
        draft: DecodingModel | None = None,
        is_greedy: bool = False,
    ) -> None:
        context, self.device = model.facts.context, model.head_weight.device
        self.stride = how.stride
        if how.stride is not None and not 1 <= how.stride <= context:
            raise UserError(f"stride {how.stride} must be from 1 to the context of {context} tokens")
        if how.compile and model.head_weight.is_mkldnn:
            raise UserError("a packed model cannot be compiled: give one that is not packed")
        self.model, self.given, self.context, self.kept = model, list(given), context, how.kept
        self.static = how.compile or (self.device.type == "cuda" if how.static is None else how.static)
        self.draft_model, self.dtype = draft, how.dtype
        self.scorer = draft if is_greedy and not how.compile and self.device.type == "cpu" else None
        self.capacity = min(-(-longest // CAPACITY) * CAPACITY if self.static else longest, context)
        self.step: Callable[[Tensor], Tensor] = self._step
        if how.compile:
            self.step = torch.compile(self._step, fullgraph=True, dynamic=False)
        self.starts: list[int] = []  # start of each row's context, as read into the cache
        self.places: list[int] = []  # cache rows of the texts that have not ended
        self.live: Tensor | None = None  # the same, for a static cache in which some have ended
        self.length = 0  # tokens in the cache, padding included
        self.cache: DecoderCache
        self.ids: Tensor  # (B, 1), what a static step reads
        self.hidden: Tensor  # (B, 1 + G, D), the input of the last logits
        self.captured: _Captured | None = None
        self.mask: Tensor | None = None  # (B, capacity), False for padding
        self.positions: Tensor | None = None  # (B, 1), of the last token; None: without padding, the cache knows

    def read(self, rows: Sequence[Sequence[int]], guess: Sequence[int] = ()) -> Tensor:
        """Logits in float32 of the token after each row, which has grown by one since the last call, and after each
        guess.

        Args:
            rows: B texts.
            guess: G tokens, at most `room`, that may follow the only row.

        Returns:
            (B, 1 + G, V): the last G are for the tokens after each token of the guess.
        """
        if guess:
            self.length += 1 + len(guess)
            ids = torch.tensor([[rows[0][-1], *guess]], device=self.device)
            return self._logits(self.model.step(ids, self.cache))
        starts = [0] * len(rows)
        if max(map(len, rows)) > self.context:
            starts = [context_start(len(row), self.context, self.stride) for row in rows]
        if starts == self.starts and self.length < self.capacity:
            return self.go_on(torch.tensor([row[-1] for row in rows], device=self.device))
        return self._read_all(rows, starts)

    @property
    def room(self) -> int:
        """How many tokens a guess may have, in a row that was never read beside shorter ones."""
        if not self.starts or len(self.places) > 1 or self.static or self.mask is not None:
            return 0
        return self.capacity - self.length - 1

    def ahead(self, wanted: int) -> int:
        """How many of the wanted tokens can follow by `go_on` before the chosen tokens must be looked at."""
        return max(0, min(wanted, look_every(self.device) - 1, self.capacity - self.length))

    def go_on(self, newest: Tensor) -> Tensor:
        """Logits in float32 after one more token (B,) of each row: (B, 1, V).

        The cache has space for it, and no row's context moves.
        """
        self.length += 1
        if not self.static:
            return self.step(newest[:, None])
        if self.live is None:
            self.ids.copy_(newest[:, None])
        else:
            self.ids.index_copy_(0, self.live, newest[:, None])
        if self.device.type == "cuda" and self.captured is None:
            self.captured = _Captured(self.step, self.ids, self._state())
        logits = self.step(self.ids) if self.captured is None else self.captured()
        return logits if self.live is None else logits.index_select(0, self.live)

    def exact_logits(self, place: int = 0) -> Tensor:
        """The model's own last logits (B, V), where only the highest were exact; `place` is the index in a guess."""
        return self.model.logits(self.hidden[:, place]).float()

    def draft(self, newest: int, n: int, choose: Callable[[Tensor], Tensor]) -> list[int]:
        """A guess of n tokens, at most `room`, after the only row: the tokens that the draft would write.

        Args:
            newest: the row's last token, which is not in the cache yet.
            choose: returns a token (1,) for logits (1, V).
        """
        assert self.draft_model is not None
        ids, guess = torch.tensor([newest], device=self.device), []
        for _ in range(n):
            hidden = self.draft_model.step(ids[:, None], self.cache)
            ids = choose(self.draft_model.logits(hidden[:, -1]).float())
            guess.append(int(ids))
        self.cache.drop(n)  # the draft's own keys and values
        return guess

    def drop(self, n: int) -> None:
        """The last n tokens of the guess were wrong."""
        if n:
            self.length -= n
            self.cache.drop(n)

    def keep(self, kept: Sequence[int], places: Tensor) -> None:
        """Keep only these rows, in this order; `places` are the same indices, on the device."""
        self.starts = [self.starts[i] for i in kept]
        if self.static:
            self.places = [self.places[i] for i in kept]
            self.live = places if self.live is None else self.live[places]
            return
        self.given = [self.given[i] for i in kept]
        self.places = list(range(len(kept)))
        self.cache.select(places)
        if self.mask is not None and self.positions is not None:
            self.mask, self.positions = self.mask[places], self.positions[places]

    def _read_all(self, rows: Sequence[Sequence[int]], starts: list[int]) -> Tensor:
        contexts = [row[start:] for row, start in zip(rows, starts, strict=True)]
        # Any token will do for padding, because no token sees it.
        ids, mask = pad_rows(contexts, 0, left=True, device=self.device)  # (B, T)
        self.given = [self.given[i] for i in self.places] if self.static and self.starts else self.given
        self.length, self.starts, self.places, self.live = ids.size(1), starts, list(range(len(contexts))), None
        self.cache = self.model.begin(self.given, self.capacity, static=self.static)
        self.mask = self.positions = positions = None
        if mask is not None:
            positions = (mask.cumsum(1) - 1).clamp_min(0)  # (B, T)
            self.positions = positions[:, -1:].clone()
            self.mask = torch.nn.functional.pad(mask, (0, self.capacity - self.length), value=True)
            mask = self.mask if self.static else mask
        self.ids, self.captured = ids[:, -1:].clone(), None
        if self.kept is not None and starts == [0] and not self.static:
            ids = ids[:, self.kept.begin(rows[0], self.cache) :]
        return self._logits(self.model.step(ids, self.cache, mask=mask, positions=positions)[:, -1:])

    def _step(self, ids: Tensor) -> Tensor:
        """(B, 1) -> (B, 1, V)."""
        mask = self.mask
        if mask is not None and self.positions is not None:
            self.positions += 1
            mask = mask if self.static else mask[:, : self.length]
        return self._logits(self.model.step(ids, self.cache, mask=mask, positions=self.positions))

    def _logits(self, hidden: Tensor) -> Tensor:
        if self.scorer is None:
            return self.model.logits(hidden).float()
        self.hidden = hidden
        return highest_logits(self.model, self.scorer, hidden).float()

    def _state(self) -> list[Tensor]:
        """The tensors that a step counts up."""
        lengths: list[Any] = [layer.length for layer in self.cache.layers if isinstance(layer.length, Tensor)]
        return [*lengths, *(t for t in (self.positions, self.cache.recent) if t is not None)]


class _Captured:
    """A step recorded as one CUDA graph, whose hundreds of kernels start without Python.

    The steps before the recording write past the end of the cache's content, where later steps write anyway.

    Args:
        step: (B, 1) -> (B, 1, V).
        ids: the tensor that it always reads.
        state: the tensors that it counts up.
    """

    def __init__(self, step: Callable[[Tensor], Tensor], ids: Tensor, state: Sequence[Tensor]) -> None:
        before = [tensor.clone() for tensor in state]
        with torch.cuda.device(ids.device):  # which need not be the current one
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(2):  # libraries choose and prepare their kernels; torch.compile compiles
                    step(ids)
                    self._restore(state, before)
            torch.cuda.current_stream().wait_stream(side)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph):
                self.logits = step(ids)
            self._restore(state, before)

    def _restore(self, state: Sequence[Tensor], before: Sequence[Tensor]) -> None:
        for tensor, value in zip(state, before, strict=True):
            tensor.copy_(value)

    def __call__(self) -> Tensor:
        """(B, 1, V), valid until the next call."""
        self.graph.replay()
        return self.logits
