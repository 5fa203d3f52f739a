"""Sources that are searched side by side, even if they began at different times: they join and leave at each step.

Shapes: S sources.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Generic, TypeVar

import torch

from transformer_zoo.config import BeamSearch
from transformer_zoo.inference import Hypothesis
from transformer_zoo.inference.beam import read_newest, start_search
from transformer_zoo.inference.generation import filling_gaps
from transformer_zoo.inference.joining import align, join_searches
from transformer_zoo.inference.search import Search
from transformer_zoo.models import DecodingModel, SharedCache

Owner = TypeVar("Owner")


class Beams(Generic[Owner]):
    """Sources that are searched with the same settings.

    Args:
        model: a model in evaluation mode.
        how: settings of the search.
        never, stop: as for `beam_search`.
        most: number of sources at a time.
    """

    def __init__(
        self,
        model: DecodingModel,
        how: BeamSearch,
        most: int,
        *,
        never: Collection[int] | None = None,
        stop: Callable[[list[int]], bool] | None = None,
    ) -> None:
        self.model, self.how, self.never, self.stop, self.most = model, how, never, stop, most
        self.owners: list[Owner] = []  # of the rows
        self.limits: list[int] = []  # largest number of tokens of each answer
        self.search: Search
        self.cache: SharedCache | None = None

    def join(
        self,
        model: DecodingModel,
        given: Sequence[Sequence[int]],
        prefix: Sequence[Sequence[int]] | None,
        owners: Sequence[Owner],
    ) -> None:
        """Begin to search for answers to more sources, each with its prefix, at the next step.

        model: has the same weights, but its own token that targets start with.
        """
        search, mask, limits = start_search(model, given, self.how, prefix=prefix, never=self.never, stop=self.stop)
        before = search.opening[:, :-1].clamp_min(0)  # the last of it is read with the newest tokens of the others
        cache = model.begin(given, before.size(1))
        if before.size(1):
            model.step(before, cache, mask=None if mask is None else mask[:, :-1])
        self.cache = self.cache or SharedCache(cache, self.most)
        self.cache.join(cache, (search.lengths[:, 0] - 1).tolist())
        if self.owners:
            join_searches(self.search, search, self.cache.length)
        else:
            self.search = search
        self.owners += owners
        self.limits += limits

    def step(self) -> list[tuple[Owner, list[Hypothesis]]]:
        """Take one step for each hypothesis; returns what is found."""
        if not self.owners or self.cache is None:
            return []
        search, how = self.search, self.how
        self.cache.make_room(search.tokens.size(1))
        align(search, self.cache.length)
        logits = read_newest(self.model, search, self.cache)
        divisors = [how.divisor(age + 1) for age in search.ages]
        penalty = torch.tensor(divisors, device=logits.device)[:, None] if len({*divisors}) > 1 else divisors[0]
        is_last = any(age + 1 == limit for age, limit in zip(search.ages, self.limits, strict=True))
        search.advance(logits.float(), how.beam, penalty, is_last=is_last)
        kept, found = self._ended(search, self.owners)
        self.keep(kept)
        return found

    def keep(self, rows: Sequence[int]) -> None:
        """Remove the other sources from the search."""
        if self.cache is None or len(rows) == len(self.owners):
            return
        places = torch.tensor(rows, dtype=torch.int64, device=self.search.tokens.device)
        self.search.select(rows, places)
        self.cache.select(places)
        align(self.search, self.cache.length)
        self.owners, self.limits = [self.owners[row] for row in rows], [self.limits[row] for row in rows]

    @staticmethod
    def _ended(search: Search, owners: Sequence[Owner]) -> tuple[list[int], list[tuple[Owner, list[Hypothesis]]]]:
        """Rows that go on, in an order that moves few; and the answers found for the others."""
        n_live = search.narrow()
        done = [row for row, n in enumerate(n_live) if not n]
        found = search.finished(done) if done else []
        return filling_gaps([n > 0 for n in n_live]), [*zip((owners[row] for row in done), found, strict=True)]
