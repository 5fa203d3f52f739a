"""A packed model gives what it gave before."""

import copy
from pathlib import Path

import pytest
import torch

import transformer_zoo as tz
from tests.models.helpers import GPT_VARIANTS, VARIANTS, small_gpt, small_model
from transformer_zoo.errors import UserError
from transformer_zoo.generation import beam_search, generate
from transformer_zoo.models import draft_of, packing


@pytest.mark.parametrize("changes", GPT_VARIANTS.values(), ids=GPT_VARIANTS.keys())
@pytest.mark.parametrize("rows", [1, 4, 16])
def test_a_packed_writer_is_the_same(changes: dict[str, object], rows: int) -> None:
    model = small_gpt(**changes)
    ids = torch.randint(53, (rows, 11))
    packed = tz.pack(copy.deepcopy(model))
    torch.testing.assert_close(packed(ids), model(ids), atol=1e-4, rtol=1e-4)
    how = {"max_new_tokens": 23, "temperature": 0.0}
    assert generate(packed, ids, **how) == generate(model, ids, **how)
    sampled = {"max_new_tokens": 23, "top_k": 7, "seed": 5}
    assert generate(packed, ids, **sampled) == generate(model, ids, **sampled)


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
@pytest.mark.parametrize(("rows", "beam"), [(1, 1), (3, 1), (13, 1), (1, 4), (3, 4)])
def test_a_packed_translator_is_the_same(changes: dict[str, object], rows: int, beam: int) -> None:
    model = small_model(**changes)
    source = torch.randint(4, 19, (rows, 4))
    packed = tz.pack(copy.deepcopy(model))
    for mine, theirs in zip(beam_search(packed, source, beam=beam), beam_search(model, source, beam=beam), strict=True):
        assert mine[0].tokens == theirs[0].tokens
        assert mine[0].log_prob == pytest.approx(theirs[0].log_prob, abs=1e-4)


def test_what_a_packed_model_cannot_do() -> None:
    packed = tz.pack(small_gpt())
    assert not any(weight.requires_grad for weight in packed.parameters())
    with pytest.raises(RuntimeError, match="q_proj"):
        packed.load_state_dict(small_gpt().state_dict())
    with pytest.raises(RuntimeError, match="packed weights cannot be saved"):
        packed.state_dict()
    with pytest.raises(RuntimeError, match="packed weights cannot be moved or given another dtype"):
        packed.bfloat16()
    with pytest.raises(UserError, match="packed model cannot be compiled"):
        generate(packed, [[1]], compile=True)


def test_a_packed_model_is_not_exported_without_its_weights(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="packed weights cannot be saved"):
        tz.to_huggingface(tz.pack(small_gpt()), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_packing_again_changes_nothing() -> None:
    ids = torch.randint(53, (4, 11))
    packed = tz.pack(small_gpt())
    before = packed(ids)
    assert torch.equal(tz.pack(packed)(ids), before)


def test_what_cannot_be_packed_stays_as_it_is() -> None:
    model = small_gpt().bfloat16()
    assert set(tz.pack(model).state_dict()) == set(small_gpt().state_dict())


@pytest.mark.parametrize("changes", GPT_VARIANTS.values(), ids=GPT_VARIANTS.keys())
def test_a_quantized_model_is_nearly_the_same(changes: dict[str, object]) -> None:
    model = small_gpt(**changes)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    ids = torch.randint(53, (3, 11))
    wanted, got = model(ids), tz.quantize(model)(ids)
    assert (got - wanted).norm() < 0.05 * wanted.norm()
    assert not torch.equal(got, wanted)
    torch.testing.assert_close(model.state_dict(), before, atol=0, rtol=0)


def test_a_quantized_translator_is_nearly_the_same() -> None:
    model = small_model(share_embeddings="inputs", logit_bias=True)
    source, target = torch.randint(4, 19, (2, 3, 5))
    wanted, got = model(source, target), tz.quantize(model)(source, target)
    assert (got - wanted).norm() < 0.05 * wanted.norm()


def test_a_quantized_model_shares_what_is_not_rounded() -> None:
    model = small_gpt()
    quantized = tz.quantize(model)
    assert quantized.embedding.weight is model.embedding.weight
    assert quantized.decoder.final_norm.weight is model.decoder.final_norm.weight


def test_what_cannot_be_quantized(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "cpu_has_int8", lambda: True)
    for model in (small_gpt().bfloat16(), tz.pack(small_gpt()), tz.quantize(small_gpt())):
        with pytest.raises(UserError, match="only a model in float32 on a CPU is quantized"):
            tz.quantize(model)
        assert draft_of(model) is None
    assert draft_of(small_gpt()) is None  # too small to gain
    large = small_gpt(vocab_size=900_000)
    assert draft_of(large) is not None
    monkeypatch.setattr(packing, "cpu_has_int8", lambda: False)
    assert draft_of(large) is None


@pytest.mark.parametrize("changes", GPT_VARIANTS.values(), ids=GPT_VARIANTS.keys())
def test_the_highest_logit_of_a_quantized_head_is_the_models(changes: dict[str, object]) -> None:
    model = small_gpt(**changes)
    with torch.no_grad():
        model.head_weight[53:] = 9  # rows that pad the vocabulary are no tokens
    quantized, hidden = tz.quantize(model), model.hidden(torch.randint(53, (3, 11)))
    wanted, got = model.logits(hidden), quantized.logits(hidden)
    assert got.shape == wanted.shape
    assert torch.equal(got.argmax(-1), wanted.argmax(-1))
    torch.testing.assert_close(got.amax(-1), wanted.amax(-1))
    assert (got - wanted).norm() < 0.05 * wanted.norm()
