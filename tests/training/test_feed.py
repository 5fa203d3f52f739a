"""Which micro-batches make an update, on which process."""

from collections.abc import Generator
from typing import Any

import pytest
import torch

from transformer_zoo.errors import UserError
from transformer_zoo.training.distributed import World
from transformer_zoo.training.feed import Feed, Update, ahead, cut


@pytest.mark.parametrize(("size", "accumulate"), [(1, 1), (1, 4), (2, 1), (2, 2), (3, 5), (7, 2)])
def test_processes_share_each_update_and_none_sees_a_batch_twice(size: int, accumulate: int) -> None:
    parts = [cut(range(23), accumulate, World(rank, size)) for rank in range(size)]
    together = [sorted(i for part in parts for i in part[n]) for n in range(len(parts[0]))]
    used = 23 - 23 % size
    width = size * accumulate
    assert together == [list(range(i, min(i + width, used))) for i in range(0, used, width)]
    for part in parts:
        assert [len(update) for update in part] == [len(update) for update in parts[0]]


def test_an_epoch_of_fewer_batches_than_processes_is_refused() -> None:
    with pytest.raises(UserError, match="2 micro-batches for 3 processes"):
        cut(range(2), 1, World(0, 3))


def test_a_feed_goes_on_from_any_place() -> None:
    def plan(epoch: int) -> list[Any]:
        return [(epoch, i) for i in range(7)]

    def first(count: int, *place: int) -> list[Update]:
        feed = Feed(plan, lambda entry: entry, 3, World(), torch.device("cpu"))
        updates = feed.updates(*place)
        return [next(updates) for _ in range(count)]

    whole = first(7, 0, 0)
    assert [place for place, _ in whole] == [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0), (2, 1)]
    for index, (place, _) in enumerate(whole[:-1]):
        assert first(1, *place) == [whole[index + 1]]


def test_reading_ahead_keeps_order_and_raises_what_the_thread_raised() -> None:
    def items() -> Generator[Any, None, None]:
        yield from range(5)
        raise UserError("no more text")

    updates = ahead(items(), depth=2)
    assert [next(updates) for _ in range(5)] == list(range(5))
    with pytest.raises(UserError, match="no more text"):
        next(updates)


def test_closing_ends_the_thread() -> None:
    import threading

    def endless() -> Generator[Any, None, None]:
        while True:
            yield 0

    before = threading.active_count()
    updates = ahead(endless())
    next(updates)
    assert threading.active_count() == before + 1
    updates.close()
    assert threading.active_count() == before
