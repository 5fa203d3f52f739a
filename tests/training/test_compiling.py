"""Compiling where it can be done, and a line where it cannot; and into how many graphs."""

import importlib.util
import shutil
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from transformer_zoo import DecoderConfig, DecoderOnly, EncoderDecoder, EncoderDecoderConfig
from transformer_zoo.data import Batch, TokenBatch
from transformer_zoo.models.decoder_only import restarting_positions
from transformer_zoo.training.device import use_compile
from transformer_zoo.training.tasks.objectives import GptObjective, TranslationObjective

# Torch's own, of its compiler.
pytestmark = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
GPU = torch.device("cuda")


def test_auto_does_without_what_is_missing_and_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert not use_compile("auto", GPU)
    assert "without torch.compile, which needs the package triton and a C compiler" in capsys.readouterr().out
    assert not use_compile("auto", GPU, say=False)
    assert use_compile("always", GPU)  # who asks for it gets it, or torch's own complaint
    assert not use_compile("never", GPU)
    assert capsys.readouterr().out == ""


def test_auto_compiles_where_everything_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(shutil, "which", lambda name: "cc" if name == "my-cc" else None)
    assert not use_compile("auto", GPU)
    monkeypatch.setenv("CC", "my-cc")
    assert use_compile("auto", GPU)
    assert not use_compile("auto", torch.device("cpu"))


class Graphs:
    """A backend of torch.compile that counts what it is given, and lets it run as it is."""

    def __init__(self) -> None:
        torch.compiler.reset()
        self.n = 0

    def __call__(self, graph: Any, _: Any) -> Callable[..., Any]:
        self.n += 1
        return graph.forward  # type: ignore[no-any-return]


def pairs(n: int, n_source: int, n_target: int, *, padded: bool) -> Batch:
    """Random tokens; with padding the first pair is a token shorter on either side."""
    source, target_in, target_out = (torch.randint(4, 17, (n, width)) for width in (n_source, n_target, n_target))
    real = [torch.ones_like(ids, dtype=torch.bool) for ids in (source, target_in)]
    for mask in real:
        mask[0, 1:] = torch.arange(1, mask.size(1)) < mask.size(1) - 1
    masks = real if padded else [None, None]
    n_tokens = int(real[1].sum()) if padded else target_in.numel()
    return Batch(source, masks[0], target_in, target_out, masks[1], n_tokens)


@pytest.mark.parametrize(("first", "changes"), [
    ((1, 1, 1), {}), ((5, 5, 5), {"positions": "relative"}), ((4, 7, 7), {"positions": "rotary", "norm": "rmsnorm"}),
    ((6, 8, 6), {}),
])  # fmt: skip
def test_training_a_translator_compiles_one_graph(first: tuple[int, ...], changes: dict[str, Any]) -> None:
    shape = {"d_model": 12, "n_heads": 3, "d_ff": 11, "n_encoder_layers": 1, "n_decoder_layers": 1, "dropout": 0.0}
    graphs, model = Graphs(), EncoderDecoder(EncoderDecoderConfig.of(vocab_size=17, **{**shape, **changes}))
    compiled, plain = TranslationObjective(model), TranslationObjective(model)
    compiled.compile(backend=graphs, fullgraph=True)
    for sizes in (first, (1, 2, 3), (4, 4, 4), (2, 5, 5), (7, 7, 3), (3, 8, 3), (8, 30, 41), (40, 2, 1)):
        batch = pairs(*sizes, padded=sizes[0] % 2 == 0)
        assert_close(compiled(batch)[0], plain(batch)[0], rtol=1e-5, atol=1e-5)
    assert graphs.n == 1


@pytest.mark.parametrize(("longest", "n_graphs"), [(30, 1), (8, 2)])
def test_batches_in_buckets_compile_one_graph_and_another_where_positions_end(longest: int, n_graphs: int) -> None:
    shape = {"d_model": 12, "n_heads": 3, "d_ff": 11, "n_encoder_layers": 1, "n_decoder_layers": 1, "dropout": 0.0}
    config = EncoderDecoderConfig.of(vocab_size=17, positions="learned", max_seq_len=longest, **shape)
    graphs, model = Graphs(), EncoderDecoder(config)
    compiled, plain = TranslationObjective(model), TranslationObjective(model)
    compiled.compile(backend=graphs, fullgraph=True)
    for sizes in ((3, 8, 6), (4, 4, 4), (1, 1, 1), (2, 5, 8), (3, 7, 8), (8, 1, 2), (4, 8, 8)):
        batch = pairs(*sizes, padded=sizes[0] % 2 == 0)
        bucket = batch.in_bucket(config.pad_id, batch_tokens=40, longest=longest)
        assert_close(compiled(bucket)[0], plain(batch)[0], rtol=1e-5, atol=1e-5)
    assert graphs.n == n_graphs


@pytest.mark.parametrize("packed", [False, True])
def test_training_a_gpt_compiles_two_graphs_at_most(packed: bool) -> None:
    shape = {"d_model": 12, "n_heads": 3, "d_ff": 11, "n_layers": 1, "dropout": 0.0, "attention_dropout": 0.0}
    graphs, model = Graphs(), DecoderOnly(DecoderConfig.of(vocab_size=17, max_seq_len=8, **shape))
    compiled, plain = GptObjective(model), GptObjective(model)
    compiled.compile(backend=graphs, fullgraph=True)
    for rows in (4, 4, 3, 4, 3, 4):
        ids, targets = torch.randint(17, (2, rows, 8))
        opens = (ids == 0).cumsum(1) if packed else None
        batch = TokenBatch(ids, targets, opens, None if opens is None else restarting_positions(opens), 8 * rows)
        assert_close(compiled(batch)[0], plain(batch)[0], rtol=1e-5, atol=1e-5)
    assert graphs.n == 2
