"""Encoded corpora and batches: every pair exactly once, little padding, an order that a seed repeats."""

import hashlib
import subprocess
import sys

import numpy as np
import pytest
import torch

from transformer_zoo.data import Batch, ParallelText, batch_indices, collate, encode_corpus
from transformer_zoo.data.batching import SpecialIds, sorted_indices
from transformer_zoo.data.encoding import _CHUNK, EncodedCorpus, TokenArrays, drop_overlong
from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers import ByteTokenizer, TranslationTokenizer, TranslationTokenizerSettings


def lengths(n: int, seed: int, longest: int = 97) -> tuple[np.ndarray, np.ndarray]:
    """Lengths like those of captions (mean 15, log-normal), the target's following the source's."""
    random = np.random.default_rng(seed)
    source = random.lognormal(2.7, 0.35, n)
    target = source * random.lognormal(0.0, 0.14, n)
    return tuple(np.clip(np.rint(side), 2, longest).astype(np.int64) for side in (source, target))


def corpus(n: int, seed: int = 0) -> EncodedCorpus:
    random = np.random.default_rng(seed)

    def side() -> TokenArrays:
        offsets = np.concatenate([[0], np.cumsum(random.integers(0, 12, n))])
        return TokenArrays(random.integers(4, 997, offsets[-1]).astype(np.uint16), offsets)

    return EncodedCorpus(side(), side(), "corpus", np.arange(1, n + 1))


@pytest.mark.parametrize("n", [1, 2, 13, 499, 5003])
@pytest.mark.parametrize("batch_tokens", [97, 211, 4099])
def test_every_pair_once_within_the_budget(n, batch_tokens):
    source, target = lengths(n, seed=n)
    plans = [batch_indices(source, target, batch_tokens=batch_tokens, seed=3, epoch=e) for e in (0, 1, 7)]
    plans.append(sorted_indices(source, target, batch_tokens=batch_tokens))
    for batches in plans:
        assert np.array_equal(np.sort(np.concatenate(batches)), np.arange(n))
        for batch in batches:
            assert len(batch) * source[batch].max() <= batch_tokens
            assert len(batch) * target[batch].max() <= batch_tokens


def test_order_is_a_function_of_seed_and_epoch():
    source, target = lengths(1009, seed=0)

    def plan(seed: int, epoch: int) -> list[list[int]]:
        batches = batch_indices(source, target, batch_tokens=509, seed=seed, epoch=epoch)
        return [batch.tolist() for batch in batches]

    assert plan(1, 2) == plan(1, 2)
    assert len({str(plan(seed, epoch)) for seed in (0, 1, 2) for epoch in (0, 1, 2)}) == 9
    # Other pairs meet in another epoch, not only other batches in a row.
    assert {tuple(sorted(b)) for b in plan(1, 0)} != {tuple(sorted(b)) for b in plan(1, 1)}


def test_batches_come_in_no_order_of_length():
    source, target = lengths(5003, seed=0)
    batches = batch_indices(source, target, batch_tokens=509, seed=0, epoch=0)
    means = np.array([target[batch].mean() for batch in batches])
    assert abs(np.corrcoef(means[1:], means[:-1])[0, 1]) < 0.2


def test_another_process_plans_the_same(root):
    program = (
        "import numpy as np, hashlib\n"
        "from transformer_zoo.data.batching import batch_indices\n"
        "n = np.arange(1009) % 31 + 2\n"
        "plan = batch_indices(n, n[::-1].copy(), batch_tokens=211, seed=5, epoch=3)\n"
        "print(hashlib.sha256(repr([b.tolist() for b in plan]).encode()).hexdigest())\n"
    )
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root).stdout.strip()
    n = np.arange(1009) % 31 + 2
    plan = batch_indices(n, n[::-1].copy(), batch_tokens=211, seed=5, epoch=3)
    assert found == hashlib.sha256(repr([b.tolist() for b in plan]).encode()).hexdigest()


def test_evaluation_goes_from_short_to_long_and_never_changes():
    source, target = lengths(1009, seed=0)
    batches = sorted_indices(source, target, batch_tokens=509)
    again = sorted_indices(source, target, batch_tokens=509)
    assert all(np.array_equal(a, b) for a, b in zip(batches, again, strict=True))
    middles = [np.median(target[batch]) for batch in batches]
    assert np.corrcoef(middles, np.arange(len(middles)))[0, 1] > 0.9


def test_padding_of_29_000_caption_like_pairs_is_small():
    """At 4,096 tokens 1.7% of the target side is padding and 7.5% of the source side, 4.7% together."""
    source, target = lengths(29_000, seed=0)
    real = padded = padded_target = 0
    for epoch in range(3):
        for batch in batch_indices(source, target, batch_tokens=4096, seed=0, epoch=epoch):
            real += source[batch].sum() + target[batch].sum()
            padded_target += len(batch) * target[batch].max()
            padded += len(batch) * (source[batch].max() + target[batch].max())
    assert 1 - real / padded < 0.05
    assert 1 - 3 * target.sum() / padded_target < 0.02


def test_batches_are_full():
    source, target = lengths(29_000, seed=0)
    batches = batch_indices(source, target, batch_tokens=4096, seed=0, epoch=0)
    cost = np.array([len(b) * max(source[b].max(), target[b].max()) for b in batches])
    assert np.mean(cost > 0.9 * 4096) > 0.95


def test_a_million_pairs_are_planned_without_a_loop_over_pairs():
    source, target = lengths(1_000_003, seed=0)
    calls = 0

    def count(_frame: object, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        batches = batch_indices(source, target, batch_tokens=25_000, seed=0, epoch=0)
    finally:
        sys.setprofile(None)
    assert sum(map(len, batches)) == 1_000_003
    assert calls < 30 * len(batches)


@pytest.mark.parametrize("side", [0, 1])
def test_a_pair_longer_than_the_budget_is_named_and_the_field(side):
    both = [np.full(7, 5), np.full(7, 5)]
    both[side][4] = 211
    for plan in (
        lambda: batch_indices(*both, batch_tokens=97, seed=0, epoch=0),
        lambda: sorted_indices(*both, batch_tokens=97),
    ):
        with pytest.raises(UserError, match=r"^batch_tokens: pair 5 has 211 tokens, .* budget of 97;"):
            plan()


def test_no_pairs_make_no_batches():
    empty = np.empty(0, np.int64)
    assert batch_indices(empty, empty, batch_tokens=97, seed=0, epoch=0) == []


def test_collate_by_hand():
    source = TokenArrays(np.array([11, 12, 13, 21], np.uint16), np.array([0, 3, 4]))
    target = TokenArrays(np.array([31, 41, 42], np.uint16), np.array([0, 1, 3]))
    batch = collate(EncodedCorpus(source, target, "c", np.array([1, 2])), np.array([1, 0]))
    assert batch.source.tolist() == [[21, 3, 0, 0], [11, 12, 13, 3]]
    assert batch.source_mask.tolist() == [[True, True, False, False], [True] * 4]
    assert batch.target_in.tolist() == [[2, 41, 42], [2, 31, 0]]
    assert batch.target_out.tolist() == [[41, 42, 3], [31, 3, 0]]
    assert batch.target_mask.tolist() == [[True, True, True], [True, True, False]]
    assert batch.n_tokens == 5


def test_collated_batches_hold_the_corpus():
    data = corpus(211)
    total = 0
    plan = batch_indices(data.source_lengths, data.target_lengths, batch_tokens=61, seed=0, epoch=0)
    for indices in plan:
        batch = collate(data, indices)
        assert {batch.source.dtype, batch.target_in.dtype, batch.target_out.dtype} == {torch.int64}
        assert batch.target_in.shape == batch.target_out.shape
        for mask, ids in ((batch.source_mask, batch.source), (batch.target_mask, batch.target_out)):
            real = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
            assert mask is None or not mask.all()
            assert torch.equal(ids != 0, real)
        for row, i in enumerate(indices):
            assert batch.source[row][batch.source[row] != 0].tolist() == [*data.source[i], 3]
            assert batch.target_in[row][batch.target_in[row] != 0].tolist() == [2, *data.target[i]]
            assert batch.target_out[row][batch.target_out[row] != 0].tolist() == [*data.target[i], 3]
        total += batch.n_tokens
    assert total == data.target_lengths.sum()


def test_batch_moves_as_a_whole():
    batch = collate(corpus(13), np.arange(13))
    moved = batch.to("meta")
    assert isinstance(moved, Batch)
    assert moved.n_tokens == batch.n_tokens
    for name in ("source", "source_mask", "target_in", "target_out", "target_mask"):
        assert getattr(moved, name).device.type == "meta"
    assert collate(corpus(13), np.array([0])).to("meta").source_mask is None


@pytest.mark.gpu
def test_pinned_batch_copies_to_the_gpu():
    batch = collate(corpus(13), np.arange(13)).pin_memory()
    assert batch.source.is_pinned()
    assert batch.target_mask.is_pinned()
    assert torch.equal(batch.to("cuda", non_blocking=True).source.cpu(), batch.source)


def text_of(source, target):
    """Random tokens, of such lengths with the token at the end."""
    random = np.random.default_rng(7)

    def side(lengths):
        offsets = np.concatenate([[0], np.cumsum(lengths - 1)])
        return TokenArrays(random.integers(4, 997, offsets[-1]).astype(np.uint16), offsets)

    return EncodedCorpus(side(source), side(target), "corpus", np.arange(1, len(source) + 1))


def shape_of(batch):
    return (*batch.source.shape, batch.target_in.size(1))


@pytest.mark.parametrize(("batch_tokens", "more"), [(1024, 0.10), (8192, 0.13), (25_000, 0.24)])
def test_batches_of_a_text_come_in_few_shapes_that_cost_little(batch_tokens, more):
    data = text_of(*lengths(29_000, seed=0))
    plan = batch_indices(data.source_lengths, data.target_lengths, batch_tokens=batch_tokens, seed=0, epoch=0)
    before = after = 0
    found = set()
    for indices in plan:
        batch = collate(data, indices)
        bucket = batch.in_bucket(0, batch_tokens=batch_tokens, longest=1024)
        found.add(shape_of(bucket))
        before += batch.source.numel() + batch.target_in.numel()
        after += bucket.source.numel() + bucket.target_in.numel()
    assert len(found) <= 30
    assert before < after < (1 + more) * before


@pytest.mark.parametrize("longest", [1024, 1000])
def test_there_are_64_shapes_up_to_1024_tokens(longest):
    found = set()
    for n in range(1, longest + 1):
        for rows, other in ((2048 // n, n), (1, 1), (2048 // n, n // 2 + 1)):
            ids = torch.empty(2, rows, n, device="meta"), torch.empty(2, rows, other, device="meta")
            for (source, _), target in (ids, ids[::-1]):
                batch = Batch(source, None, *target, None, rows).in_bucket(0, batch_tokens=2048, longest=longest)
                assert batch.source.shape == batch.source_mask.shape == batch.target_out.shape
                found.add(shape_of(batch))
                assert batch.source.size(1) <= min(n + n // 8 + 1, longest)
                assert batch.source.numel() < 2048 * 9 / 8
    assert len(found) == 64


def test_a_bucket_holds_the_batch_and_padding():
    data = text_of(*lengths(499, seed=0))
    for indices in batch_indices(data.source_lengths, data.target_lengths, batch_tokens=257, seed=0, epoch=0):
        batch = collate(data, indices)
        bucket = batch.in_bucket(0, batch_tokens=257, longest=1024)
        assert bucket.n_tokens == batch.n_tokens == bucket.target_mask.sum()
        for name, mask in (("source", "source_mask"), ("target_in", "target_mask"), ("target_out", "target_mask")):
            ours, real, theirs = getattr(bucket, name), getattr(bucket, mask), getattr(batch, name)
            rows, width = theirs.shape
            assert torch.equal(ours[:rows, :width], theirs)
            assert ours.count_nonzero() == theirs.count_nonzero()
            assert torch.equal(real, ours != 0)


def test_token_arrays_select():
    data = corpus(101)
    picked = data.select(np.array([97, 3, 3, 0]))
    assert [picked.source[i] for i in range(4)] == [data.source[i] for i in (97, 3, 3, 0)]
    assert [picked.target[i] for i in range(4)] == [data.target[i] for i in (97, 3, 3, 0)]
    assert picked.line_numbers.tolist() == [98, 4, 4, 1]
    assert picked.source.flat.dtype == np.uint16


def test_drop_overlong_keeps_line_numbers_and_reports():
    data = corpus(499)
    kept, report = drop_overlong(data, 7)
    longest = np.maximum(data.source_lengths, data.target_lengths)
    assert np.array_equal(kept.line_numbers, data.line_numbers[longest <= 7])
    assert max(kept.source_lengths.max(), kept.target_lengths.max()) == 7
    assert report.n_dropped == (longest > 7).sum() > 0
    assert "of more than 7 tokens (lines " in str(report)
    assert drop_overlong(data, 12)[0] is data
    with pytest.raises(UserError, match="no pair is left, raise the limit"):
        drop_overlong(data, 0)


@pytest.fixture(scope="module")
def tokenizer() -> TranslationTokenizer:
    lines = [f"wort{i} und {chr(97 + i % 26)}{i * 7}" for i in range(499)]
    return TranslationTokenizer.train(
        lines, [line.upper() for line in lines], TranslationTokenizerSettings(vocab_size=127)
    )


def test_encode_corpus_is_line_by_line_encoding(tokenizer):
    text = ParallelText(["wort1 und a", "", "wort2"], ["WORT1", "UND B", "C"], "t", np.array([3, 5, 7]))
    data = encode_corpus(text, tokenizer)
    for i in range(3):
        assert data.source[i] == tokenizer.source.encode(text.source[i])
        assert data.target[i] == tokenizer.target.encode(text.target[i])
    assert data.source_lengths.tolist() == [len(data.source[i]) + 1 for i in range(3)]
    assert data.line_numbers.tolist() == [3, 5, 7]
    assert data.source.flat.dtype == np.uint16


def test_encode_corpus_in_several_chunks(tokenizer):
    n = _CHUNK + 7
    text = ParallelText([f"a{i % 11}" for i in range(n)], ["B"] * n)
    data = encode_corpus(text, tokenizer)
    assert len(data) == n
    for i in (0, _CHUNK - 1, _CHUNK, n - 1):
        assert data.source[i] == tokenizer.source.encode(text.source[i])


def test_sampled_corpus_follows_seed_and_epoch(tokenizer):
    text = ParallelText([f"wort{i}" for i in range(211)], [f"wort{i}" for i in range(211)])

    def draw(seed: int, epoch: int) -> tuple[list[int], list[int]]:
        data = encode_corpus(text, tokenizer, sample_alpha=0.3, seed=seed, epoch=epoch)
        return data.source.flat.tolist(), data.target.flat.tolist()

    assert draw(1, 0) == draw(1, 0)
    assert draw(1, 0)[0] != draw(1, 0)[1]  # the two sides are drawn apart
    assert len({str(draw(seed, epoch)) for seed in (0, 1) for epoch in (0, 1)}) == 4


def test_collate_with_the_special_ids_of_another_vocabulary():
    source = TokenArrays(np.array([11, 12, 13, 21], np.uint16), np.array([0, 3, 4]))
    target = TokenArrays(np.array([31, 41, 42], np.uint16), np.array([0, 1, 3]))
    special = SpecialIds(pad_id=97, bos_id=53, eos_id=59, source_end_id=61)
    batch = collate(EncodedCorpus(source, target, "c", np.array([1, 2])), np.array([1, 0]), special)
    assert batch.source.tolist() == [[21, 61, 97, 97], [11, 12, 13, 61]]
    assert batch.target_in.tolist() == [[53, 41, 42], [53, 31, 97]]
    assert batch.target_out.tolist() == [[41, 42, 59], [31, 59, 97]]


def test_only_our_own_tokenizer_draws_pieces(tokenizer):
    class Imported(ByteTokenizer):
        vocab_size = 70_001

        def encode_batch(self, texts):
            return [[70_000] * len(text) for text in texts]

    found = TokenArrays.encode(["ab", "", "c"], Imported())
    assert [found[i] for i in range(3)] == [[70_000, 70_000], [], [70_000]]
    with pytest.raises(UserError, match=r"tokenizer\.sample_alpha: bytes \(70,001\) draws no pieces"):
        TokenArrays.encode(["ab"], Imported(), sample_alpha=0.1)
