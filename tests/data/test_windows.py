"""Windows: every token once an epoch, a pure function of seed, epoch and number; documents told apart."""

import numpy as np
import pytest
import torch

from transformer_zoo.data import TokenBatch, Windows, write_tokens
from transformer_zoo.data.windows import IGNORED, permute
from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers import ByteTokenizer, CharacterTokenizer


class Numbers:
    """A file whose token at i is i, so that a batch shows where it is from."""

    split, eos_id = "train", None

    def __init__(self, n_tokens: int, eos_id: int | None = None) -> None:
        self.n_tokens, self.eos_id = n_tokens, eos_id

    def read(self, start: int, stop: int) -> np.ndarray:
        assert 0 <= start <= stop <= self.n_tokens
        return np.arange(start, stop, dtype=np.uint32)

    def take(self, places: np.ndarray) -> np.ndarray:
        assert places.min() >= 0
        assert places.max() < self.n_tokens
        return places.astype(np.uint32)


def epoch(windows: Windows, number: int, batch_size: int, seed: int = 0) -> list[TokenBatch]:
    return [
        windows.load(place, batch_size=batch_size, seed=seed) for place in windows.plan(number, batch_size=batch_size)
    ]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 16, 17, 997, 4096])
def test_permute_is_a_permutation(n):
    for seed in range(3):
        assert sorted(permute(np.arange(n), n, seed=seed, epoch=seed + 1).tolist()) == list(range(n))


def test_permutations_differ_and_look_random():
    n = 1009
    drawn = np.stack([permute(np.arange(n), n, seed=seed, epoch=epoch) for seed in range(17) for epoch in range(17)])
    assert len({row.tobytes() for row in drawn}) == len(drawn)
    assert (drawn[:, 1:] == drawn[:, :-1] + 1).mean() < 3 / n  # neighbours stay together no more than by chance
    sums = np.corrcoef(np.arange(n), drawn)[0, 1:]
    assert abs(sums).max() < 5 / np.sqrt(n)
    # The first entry is uniform: chi-squared over 8 bins, 7 degrees of freedom, 99.99 %.
    counts = np.bincount(drawn[:, 0] * 8 // n, minlength=8)
    assert ((counts - len(drawn) / 8) ** 2).sum() / (len(drawn) / 8) < 29.9


def test_permute_needs_no_table():
    n = 10**13
    numbers = np.array([0, 1, n - 1])
    moved = permute(numbers, n, seed=7, epoch=0)
    assert ((moved >= 0) & (moved < n)).all()
    assert len(set(moved.tolist())) == 3


@pytest.mark.parametrize(
    ("n_tokens", "length", "batch_size"), [(1009, 7, 5), (997, 997 - 1, 3), (144, 12, 4), (13, 1, 4)]
)
def test_an_epoch_has_every_token_once(n_tokens, length, batch_size):
    windows = Windows(Numbers(n_tokens), length)
    for number in range(3):
        batches = epoch(windows, number, batch_size)
        targets = torch.cat([batch.targets.flatten() for batch in batches])
        assert len(set(targets.tolist())) == len(targets) == n_tokens // length * length
        assert sum(batch.n_tokens for batch in batches) == len(targets)
        for batch in batches:
            assert batch.ids.dtype == batch.targets.dtype == torch.int64
            assert torch.equal(batch.targets, (batch.ids + 1) % n_tokens)
            assert torch.equal(batch.ids[:, 1:], batch.targets[:, :-1])
        assert [len(batch.ids) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)


def test_what_an_epoch_leaves_out_differs():
    windows = Windows(Numbers(109), 10)
    left = [
        set(range(109)) - set(torch.cat([batch.targets.flatten() for batch in epoch(windows, number, 4)]).tolist())
        for number in range(7)
    ]
    assert all(len(missing) == 9 for missing in left)
    assert len(set(map(frozenset, left))) > 1


def test_a_batch_depends_on_seed_epoch_and_number_alone():
    def ids(seed: int, epoch: int, number: int) -> list[list[int]]:
        return Windows(Numbers(1009), 7).load((epoch, number), batch_size=5, seed=seed).ids.tolist()

    assert ids(3, 2, 11) == ids(3, 2, 11)
    assert len({str(ids(*place)) for place in ((3, 2, 11), (4, 2, 11), (3, 1, 11), (3, 2, 12))}) == 4


def test_text_shorter_than_a_window_is_refused():
    with pytest.raises(UserError, match="split 'train' has 7 tokens, less than a window of 7"):
        Windows(Numbers(7), 7).plan(0, batch_size=1)
    assert Windows(Numbers(8), 7).plan(0, batch_size=1) == [(0, 0)]


@pytest.mark.parametrize(("n_tokens", "length"), [(1009, 7), (8, 7), (9, 7), (5, 7), (15, 7), (2, 7)])
def test_evaluation_has_every_token_but_the_first(n_tokens, length):
    targets = []
    for batch in Windows(Numbers(n_tokens), length).evaluation(batch_size=4):
        real = batch.targets != IGNORED
        assert batch.n_tokens == real.sum()
        assert torch.equal(batch.targets[real], batch.ids[real] + 1)
        assert batch.ids.min() >= 0
        assert batch.ids.shape[1] == length
        targets += batch.targets[real].tolist()
    assert targets == list(range(1, n_tokens))


def test_a_split_of_one_token_has_nothing_to_evaluate():
    assert list(Windows(Numbers(1), 7).evaluation(batch_size=4)) == []


def test_packed_documents(tmp_path):
    tokens = write_tokens(["abc", "d", "", "efghi"], ByteTokenizer(), tmp_path, "train")
    (batch,) = Windows(tokens, 7, packed_documents=True).evaluation(batch_size=9)
    end, pad = 256, 0
    assert batch.ids.tolist() == [[97, 98, 99, end, 100, end, end], [101, 102, 103, 104, 105, end, pad]]
    assert batch.documents.tolist() == [[0, 0, 0, 1, 1, 2, 3], [0, 0, 0, 0, 0, 1, 1]]
    assert batch.positions.tolist() == [[0, 1, 2, 0, 1, 0, 0], [0, 1, 2, 3, 4, 0, 1]]
    assert batch.targets.tolist() == [[98, 99, end, 100, end, end, 101], [102, 103, 104, 105, end, IGNORED, IGNORED]]
    trained = Windows(tokens, 5, packed_documents=True).load((0, 0), batch_size=2, seed=1)
    assert (trained.documents.shape, trained.positions.shape) == ((2, 5), (2, 5))
    plain = Windows(tokens, 5).load((0, 0), batch_size=2, seed=1)
    assert torch.equal(plain.ids, trained.ids)
    assert plain.documents is plain.positions is None


def test_packed_documents_need_an_end_of_text(tmp_path):
    tokens = write_tokens(["ab"], CharacterTokenizer("ab", end_of_text=False), tmp_path, "train")
    with pytest.raises(UserError, match="packed_documents: the tokenizer has no end of text"):
        Windows(tokens, 7, packed_documents=True)


def test_a_batch_moves_as_a_whole():
    batch = Windows(Numbers(97, eos_id=5), 7, packed_documents=True).load((0, 0), batch_size=3, seed=0)
    moved = batch.to("meta")
    assert moved.n_tokens == batch.n_tokens == 21
    for name in ("ids", "targets", "documents", "positions"):
        assert getattr(moved, name).device.type == "meta"
    assert Windows(Numbers(97), 7).load((0, 0), batch_size=3, seed=0).to("meta").documents is None


@pytest.mark.gpu
def test_a_pinned_batch_copies_to_the_gpu():
    batch = Windows(Numbers(97), 7).load((0, 0), batch_size=3, seed=0).pin_memory()
    assert batch.ids.is_pinned()
    assert torch.equal(batch.to("cuda", non_blocking=True).ids.cpu(), batch.ids)
