"""The next token's logits for texts that grow by a token at a time: what is read once stays in a cache.

Shapes: B rows, T tokens of the longest context, V vocabulary.
"""

from collections.abc import Callable, Collection, Sequence

import torch
from torch import Tensor

from transformer_zoo.blocks import StaticKVCache
from transformer_zoo.errors import UserError
from transformer_zoo.generation.inference import look_every
from transformer_zoo.models import DecoderOnly, highest_logits
from transformer_zoo.models.cache import DecoderCache

CAPACITY = 256
"""A static cache has room for a multiple of so many tokens: its step is compiled once for all texts of like lengths."""


def context_start(length: int, max_seq_len: int, stride: int) -> int:
    """Where the context of a text of `length` tokens begins, so that it has at most `max_seq_len`.

    At the first token as long as all fit; then at the first multiple of `stride` from which the rest fits. So it moves
    every `stride` tokens only, and the model reads at least max_seq_len - stride + 1 tokens.
    """
    return -(-max(length - max_seq_len, 0) // stride) * stride


class Reader:
    """Reads rows of different length side by side, each as if it were alone.

    Rows are padded on the left. A row that outgrows `max_seq_len` is read again from its new `context_start`: cached
    keys and values know the tokens before it, and learned positions end.

    Args:
        model: in evaluation mode.
        longest: no row will ever have more tokens.
        stride: as for `context_start`.
        cache: without, every step reads all of every row's context.
        draft: guesses for `draft`; it takes the model's cache for its own.
        greedy: of the logits only each row's highest counts: a draft gives it sooner. The others may be rounded.
        never: tokens whose logits are -inf.
        static: the cache shows attention its whole capacity, and rows that have ended stay in it, so that every step
            has the same shapes: on a GPU it is captured, and repeated without a word from Python.
        compile: compile that step: one graph for a number of rows, padded or not, and `CAPACITY` tokens of capacity.
    """

    def __init__(
        self,
        model: DecoderOnly,
        *,
        longest: int,
        stride: int,
        cache: bool = True,
        draft: DecoderOnly | None = None,
        greedy: bool = False,
        never: Collection[int] = (),
        static: bool = False,
        compile: bool = False,
    ) -> None:
        if not 1 <= stride <= model.config.max_seq_len:
            raise UserError(f"stride {stride} must be from 1 to the context of {model.config.max_seq_len} tokens")
        self.model, self.stride = model, stride
        self.use_cache, self.static = cache, static or compile
        self.draft_model = draft
        self.scorer = draft if greedy and not compile and model.head_weight.device.type == "cpu" else None
        room = -(-longest // CAPACITY) * CAPACITY if self.static else longest
        self.capacity = min(room, model.config.max_seq_len)
        self.device = model.head_weight.device
        self.never = torch.tensor(sorted(never), device=self.device) if never else None
        self.step: Callable[[Tensor], Tensor] = self._step
        if compile:
            self.step = torch.compile(self._step, fullgraph=True, dynamic=False)
        self.starts: list[int] = []  # of the context of each row in the cache
        self.places: list[int] = []  # of the rows that have not ended, in the cache
        self.live: Tensor | None = None  # the same, of a static cache where some have ended
        self.length = 0  # tokens in the cache, padding included
        self.cache: DecoderCache
        self.ids: Tensor  # (B, 1), what a static step reads
        self.captured: _Captured | None = None
        self.mask: Tensor | None = None  # (B, capacity), True but for padding
        self.positions: Tensor | None = None  # (B, 1), of the last token; None: without padding, the cache knows

    def read(self, rows: Sequence[Sequence[int]], guess: Sequence[int] = ()) -> Tensor:
        """Logits in float32 of the token after each row, which has grown by one since the last call, and of a guess.

        Args:
            rows: B texts.
            guess: G tokens, at most `room`, that may follow the only row.

        Returns:
            (B, 1 + G, V): also of the token after each of the guess.
        """
        if guess:
            self.length += 1 + len(guess)
            ids = torch.tensor([[rows[0][-1], *guess]], device=self.device)
            return self._last_logits(self.model.hidden(ids, cache=self.cache), 1 + len(guess))
        starts = [context_start(len(row), self.model.config.max_seq_len, self.stride) for row in rows]
        if self.use_cache and starts == self.starts and self.length < self.capacity:
            return self.go_on(torch.tensor([row[-1] for row in rows], device=self.device))
        return self._read_all([row[start:] for row, start in zip(rows, starts, strict=True)], starts)

    @property
    def room(self) -> int:
        """How many tokens a guess may have: it takes a cache, and a row that was never read beside shorter ones."""
        if not self.starts or len(self.places) > 1 or not self.use_cache or self.static or self.mask is not None:
            return 0
        return self.capacity - self.length - 1

    def ahead(self, wanted: int) -> int:
        """How many of the wanted tokens can follow by `go_on` before anybody looks at what was chosen."""
        if not (self.use_cache and self.static):
            return 0
        return max(0, min(wanted, look_every(self.device) - 1, self.capacity - self.length))

    def go_on(self, newest: Tensor) -> Tensor:
        """Logits in float32 after one more token (B,) of each row: (B, 1, V).

        The cache has room for it, and no row's context moves.
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

    def draft(self, newest: int, n: int, choose: Callable[[Tensor], Tensor]) -> list[int]:
        """A guess of n tokens, at most `room`, after the only row: what the draft would write.

        Args:
            newest: the row's last token, which is not in the cache yet.
            choose: a token for logits (1, V): (1,).
        """
        assert self.draft_model is not None
        ids, guess = torch.tensor([newest], device=self.device), []
        for _ in range(n):
            hidden = self.draft_model.hidden(ids[:, None], cache=self.cache)
            ids = choose(self._without_never(self.draft_model.logits(hidden[:, -1]).float()))
            guess.append(int(ids))
        self.cache.drop(n)  # what the draft took for keys and values
        return guess

    def drop(self, n: int) -> None:
        """The last n tokens of the guess were wrong."""
        if n:
            self.length -= n
            self.cache.drop(n)

    def keep(self, kept: Sequence[int]) -> None:
        """Only these rows go on, in this order."""
        self.starts = [self.starts[i] for i in kept]
        self.places = [self.places[i] for i in kept]
        if not self.use_cache:
            return
        if self.static:
            self.live = torch.tensor(self.places, dtype=torch.int64, device=self.device)
            return
        rows = torch.tensor(kept, dtype=torch.int64, device=self.device)
        self.cache.select(rows)
        if self.mask is not None and self.positions is not None:
            self.mask, self.positions = self.mask[rows], self.positions[rows]
        self.places = list(range(len(kept)))

    def _read_all(self, contexts: Sequence[Sequence[int]], starts: list[int]) -> Tensor:
        lengths = [len(context) for context in contexts]
        n = self.length = max(lengths)
        self.starts, self.places, self.live = starts, list(range(len(contexts))), None
        # Any token does for padding: nobody sees it.
        padded = [[0] * (n - len(context)) + list(context) for context in contexts]
        ids = torch.tensor(padded, device=self.device)  # (B, T)
        mask = self._mask_padding([n - length for length in lengths])
        if not self.use_cache:
            return self._last_logits(self.model.hidden(ids, None if mask is None else mask[:, :n]))
        self.cache = self.model.new_cache(len(contexts), self.capacity, static=self.static)
        self.mask, self.positions = mask, None
        positions = None
        if mask is not None:
            positions = (mask[:, :n].cumsum(1) - 1).clamp_min(0)  # (B, T)
            self.positions = positions[:, -1:].clone()
            mask = mask if self.static else mask[:, :n]
        self.ids, self.captured = ids[:, -1:].clone(), None
        return self._last_logits(self.model.hidden(ids, mask, positions, self.cache))

    def _mask_padding(self, padding: Sequence[int]) -> Tensor | None:
        """(B, capacity), True but for so many places on the left of each row; None without any."""
        if not any(padding):
            return None
        return torch.arange(self.capacity, device=self.device) >= torch.tensor(padding, device=self.device)[:, None]

    def _step(self, ids: Tensor) -> Tensor:
        """(B, 1) -> (B, 1, V)."""
        mask = self.mask
        if mask is not None and self.positions is not None:
            self.positions += 1
            mask = mask if self.static else mask[:, : self.length]
        return self._last_logits(self.model.hidden(ids, mask, self.positions, self.cache))

    def _last_logits(self, hidden: Tensor, n: int = 1) -> Tensor:
        hidden = hidden[:, -n:]
        logits = highest_logits(self.model, self.scorer, hidden).float()
        if self.scorer is not None and self._highest_is_never(logits):
            logits = self.model.logits(hidden).float()  # the highest of the others may be rounded
        return self._without_never(logits)

    def _highest_is_never(self, logits: Tensor) -> bool:
        if self.never is None:
            return False
        return bool((logits.index_select(-1, self.never) == logits.amax(-1, keepdim=True)).any())

    def _without_never(self, logits: Tensor) -> Tensor:
        return logits if self.never is None else logits.index_fill(-1, self.never, -torch.inf)

    def _state(self) -> list[Tensor]:
        """What a step counts up."""
        lengths = [layer.length for layer in self.cache.layers if isinstance(layer, StaticKVCache)]
        return [*lengths, *(t for t in (self.positions, self.cache.recent) if t is not None)]


class _Captured:
    """A step recorded as one CUDA graph: its hundreds of kernels start without Python's help.

    The steps that it takes to get there write past the end of the cache's content, where later steps write anyway.

    Args:
        step: (B, 1) -> (B, 1, V).
        ids: what it will always read.
        state: what it counts up.
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
        """(B, 1, V), to be used before the next call."""
        self.graph.replay()
        return self.logits
