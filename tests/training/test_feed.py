"""Which micro-batches make an update, on which process."""

import threading
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch

from transformer_zoo.data import TokenBatch
from transformer_zoo.errors import UserError
from transformer_zoo.training.distributed import World
from transformer_zoo.training.task import Feed, Update, ahead, cut


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
    def endless() -> Generator[Any, None, None]:
        while True:
            yield 0

    before = threading.active_count()
    updates = ahead(endless())
    next(updates)
    assert threading.active_count() == before + 1
    updates.close()
    assert threading.active_count() == before


@dataclass(frozen=True)
class Pinnable:
    """A batch that remembers in which thread it was brought to page-locked memory."""

    number: int
    pinned_by: int | None = None
    n_tokens: int = 1

    def to(self, device: torch.device, *, non_blocking: bool = False) -> "Pinnable":
        return self

    def pin_memory(self) -> "Pinnable":
        return replace(self, pinned_by=threading.get_ident())


def test_for_a_gpu_a_thread_of_its_own_pins_batches_beforehand(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[tuple[int, torch.device]] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: chosen.append((threading.get_ident(), device)))
    loaded: list[int] = []

    def load(number: int) -> Pinnable:
        loaded.append(number)
        return Pinnable(number)

    gpu = torch.device("cuda", 3)
    with closing(Feed(lambda epoch: range(8), load, 2, World(), gpu).updates(0, 0)) as updates:
        batches = [batch for _ in range(2) for batch in next(updates)[1]]
        assert [batch.number for batch in batches] == [0, 1, 2, 3]
        [thread] = {batch.pinned_by for batch in batches}
        assert thread != threading.get_ident()
        assert chosen == [(thread, gpu)]
        deadline = time.monotonic() + 10
        while len(loaded) < 8 and time.monotonic() < deadline:
            time.sleep(0.001)
        assert loaded[:8] == list(range(8))  # while nobody asks for more


@pytest.mark.gpu
def test_pinned_batches_arrive_whole_and_nobody_waits() -> None:
    device, shape = torch.device("cuda", 0), (64, 512)

    def load(number: int) -> TokenBatch:
        ids = torch.full(shape, number)
        return TokenBatch(ids, ids + 1, None, None, ids.numel())

    sums = []
    with closing(Feed(lambda epoch: range(64), load, 1, World(), device).updates(0, 0)) as updates:
        for _ in range(64):
            [batch] = next(updates)[1]
            assert batch.ids.is_pinned()
            torch.cuda._sleep(1_000_000)  # a GPU that has not come so far yet: memory must not be used again before
            there = batch.to(device, non_blocking=True)
            sums.append((there.ids + there.targets).sum())
            del batch
        done = torch.cuda.Event()
        done.record()
        assert not done.query()  # all were given before the first ones were done
    numbers = [(2 * number + 1) * shape[0] * shape[1] for number in range(64)]
    assert torch.stack(sums).tolist() == numbers
