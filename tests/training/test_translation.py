"""The objective of translation: what is summed, over which tokens, with smoothing only in training."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from tests.architectures import TRANSLATION
from transformer_zoo.config import EncoderDecoderConfig
from transformer_zoo.data import Batch
from transformer_zoo.models import EncoderDecoder
from transformer_zoo.training.overrides import PROBABILITIES
from transformer_zoo.training.tasks.objectives import TranslationObjective
from transformer_zoo.training.tasks.translation import mean_nll
from transformer_zoo.zoo import build

LENGTHS = ((5, 7), (3, 4), (2, 6))  # source and target of each pair


def batch_of(rows: list[int]) -> Batch:
    """Pairs of known lengths, padded on the right; their tokens do not depend on the batch."""
    n_source, n_target = (max(LENGTHS[row][side] for row in rows) for side in (0, 1))
    ids = torch.from_numpy(np.random.default_rng(1).integers(4, 17, (3, 2, 8)))
    source = torch.zeros(len(rows), n_source, dtype=torch.long)
    target_in, target_out = torch.zeros(2, len(rows), n_target, dtype=torch.long)
    for place, row in enumerate(rows):
        s, t = LENGTHS[row]
        source[place, :s] = ids[row, 0, :s]
        target_out[place, :t] = ids[row, 1, :t]
        target_in[place, 0], target_in[place, 1:t] = 2, ids[row, 1, : t - 1]
    return Batch(
        source=source,
        source_mask=None if (source > 0).all() else source > 0,
        target_in=target_in,
        target_out=target_out,
        target_mask=None if (target_in > 0).all() else target_in > 0,
        n_tokens=sum(LENGTHS[row][1] for row in rows),
    )


@pytest.fixture
def model() -> EncoderDecoder:
    torch.manual_seed(2)
    config = EncoderDecoderConfig.of(
        vocab_size=17, d_model=12, n_heads=3, d_ff=11, n_encoder_layers=1, n_decoder_layers=1, dropout=0.0
    )
    return EncoderDecoder(config).double()


def test_the_loss_is_cross_entropy_over_the_real_tokens(model: EncoderDecoder) -> None:
    objective = TranslationObjective(model, label_smoothing=0.1)
    batch = batch_of([0, 1, 2])
    logits = model(batch.source, batch.target_in, batch.source_mask, batch.target_mask)
    for smoothing, training in ((0.1, True), (0.0, False)):
        loss, nll = objective.train(training)(batch)
        entropy = nn.CrossEntropyLoss(ignore_index=0, reduction="sum", label_smoothing=smoothing)
        torch.testing.assert_close(loss.double(), entropy(logits.flatten(0, 1), batch.target_out.flatten()))
        plain = nn.functional.cross_entropy(
            logits.flatten(0, 1), batch.target_out.flatten(), ignore_index=0, reduction="sum"
        )
        torch.testing.assert_close(nll.double(), plain)


@pytest.mark.parametrize("share", ["all", "inputs", "decoder", "none"])
def test_the_gradient_is_that_of_the_cross_entropy_whatever_matrices_are_one(share: str, model: EncoderDecoder) -> None:
    model = EncoderDecoder(dataclasses.replace(model.config, share_embeddings=share)).double()
    batch = batch_of([0, 1, 2])
    weights = list(model.parameters())
    logits = model(batch.source, batch.target_in, batch.source_mask, batch.target_mask)
    wanted = nn.functional.cross_entropy(
        logits.flatten(0, 1), batch.target_out.flatten(), ignore_index=0, reduction="sum"
    )
    exact = torch.autograd.grad(wanted, weights)
    got = torch.autograd.grad(TranslationObjective(model)(batch)[0], weights)
    torch.testing.assert_close(got, exact)


def test_loss_and_gradient_do_not_depend_on_how_pairs_are_batched(model: EncoderDecoder) -> None:
    objective = TranslationObjective(model, label_smoothing=0.1)
    results = []
    for cut in ([[0, 1, 2]], [[2], [0], [1]], [[1, 0], [2]]):
        model.zero_grad()
        total = 0.0
        for rows in cut:
            loss, _ = objective(batch_of(rows))
            loss.backward()
            total += loss.item()
        results.append((total, [p.grad.clone() for p in model.parameters() if p.grad is not None]))
    for total, grads in results[1:]:
        assert total == pytest.approx(results[0][0], rel=1e-6)
        for grad, expected in zip(grads, results[0][1], strict=True):
            torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-6)  # float32 inside


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("name", [name for name in TRANSLATION if ", " in name])
def test_padding_to_a_bucket_changes_neither_loss_nor_gradient(
    name: str, compiled: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows of padding alone change nothing either, by the CPU's kernels and by what a compiler for a GPU is given."""
    torch.manual_seed(2)
    config = TRANSLATION[name].changed(**dict.fromkeys(PROBABILITIES, 0.0))
    objective = TranslationObjective(build(config).double(), label_smoothing=0.1)  # type: ignore[arg-type]
    if compiled:
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    for batch in (batch_of([0, 1, 2]), batch_of([1])):
        bucket = batch.in_bucket(config.pad_id, batch_tokens=64, longest=config.longest_input)
        assert bucket.source.shape[0] > len(batch.source)
        losses, grads = [], []
        for given in (batch, bucket):
            objective.zero_grad(set_to_none=True)
            loss, nll = objective(given)
            loss.backward()
            losses.append((loss.detach(), nll))
            grads.append([p.grad.to_dense() for p in objective.parameters() if p.grad is not None])
        torch.testing.assert_close(losses[1], losses[0])
        assert len(grads[0]) == len(grads[1])
        for got, wanted in zip(grads[1], grads[0], strict=True):
            torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-6)  # float32 inside


def test_the_validation_loss_is_a_mean_over_tokens_not_over_batches(model: EncoderDecoder) -> None:
    objective = TranslationObjective(model, label_smoothing=0.1).train()
    whole = mean_nll(objective, [batch_of([0, 1, 2])])
    assert mean_nll(objective, [batch_of([1]), batch_of([0, 2])]) == pytest.approx(whole, rel=1e-6)


def test_compiling_is_for_training_and_gets_masks_always(
    model: EncoderDecoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[bool] = []

    def compile_(function: object, **options: object) -> object:
        assert options == {"dynamic": True}

        def compiled(*arguments: torch.Tensor) -> torch.Tensor:
            calls.append(all(isinstance(argument, torch.Tensor) for argument in arguments))
            return function(*arguments)  # type: ignore[no-any-return, operator]

        return compiled

    monkeypatch.setattr(torch, "compile", compile_)
    objective = TranslationObjective(model)
    batches = [batch_of([0]), batch_of([0, 1])]
    expected = [objective(batch)[0] for batch in batches]
    objective.compile(dynamic=True)
    for batch, loss in zip(batches, expected, strict=True):
        torch.testing.assert_close(objective(batch)[0], loss)
    assert calls == [True, True]
    mean_nll(objective, batches)
    assert calls == [True, True]


@pytest.mark.parametrize("bos_id", [0, 2])
def test_pad_stays_zero_where_targets_start_with_it(bos_id: int) -> None:
    torch.manual_seed(2)
    shape = {"d_model": 12, "n_heads": 3, "d_ff": 11, "n_encoder_layers": 1, "n_decoder_layers": 1}
    model = EncoderDecoder(EncoderDecoderConfig.of(vocab_size=17, bos_id=bos_id, **shape))
    before = model.head_weight.detach().clone()
    objective, adam = TranslationObjective(model), torch.optim.Adam(model.parameters(), lr=0.1)
    objective(batch_of([0, 1, 2]))[0].backward()
    adam.step()
    changed = (model.head_weight.detach() != before).any(1)
    assert changed[0] == (bos_id == 2)  # it is a row of the output projection too
    assert changed[4:].all()


def tensors_and_marks(model: nn.Module) -> dict[str, object]:
    """All that a module says of itself, its tensors by their identity, and what is registered on them."""
    said: dict[str, object] = {}
    for name, part in model.named_modules():
        said |= {f"{name}.{key}": id(value) for key, value in vars(part).items()}
    for name, weight in model.named_parameters():
        said[name] = id(weight), weight.requires_grad, bool(weight._backward_hooks)
    return said


@pytest.mark.parametrize("bos_id", [0, 2])
def test_an_objective_changes_nothing_in_the_model(bos_id: int, model: EncoderDecoder) -> None:
    model = EncoderDecoder(dataclasses.replace(model.config, bos_id=bos_id)).double()
    before = tensors_and_marks(model)
    TranslationObjective(model, label_smoothing=0.1)(batch_of([0, 1, 2]))[0].backward()
    assert tensors_and_marks(model) == before
