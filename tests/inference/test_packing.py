"""A packed model gives what it gave before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import transformer_zoo as tz
from tests.flat import beam_search, generate, greedily
from tests.models.helpers import GPT_VARIANTS, VARIANTS, small_gpt, small_model
from transformer_zoo.blocks import Linear
from transformer_zoo.errors import UserError
from transformer_zoo.inference import draft_of, packing
from transformer_zoo.inference.projections import PackedLinear


@pytest.fixture(autouse=True)
def _any_weight_is_big(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "BIG_WEIGHT", 1)


@pytest.mark.parametrize("changes", GPT_VARIANTS.values(), ids=GPT_VARIANTS.keys())
@pytest.mark.parametrize("rows", [1, 4, 16])
def test_a_packed_writer_is_the_same(changes: dict[str, object], rows: int) -> None:
    model = small_gpt(**changes)
    ids = torch.randint(53, (rows, 11))
    packed = tz.pack(model)
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
    packed = tz.pack(model)
    for mine, theirs in zip(beam_search(packed, source, beam=beam), beam_search(model, source, beam=beam), strict=True):
        assert mine[0].tokens == theirs[0].tokens
        assert mine[0].log_prob == pytest.approx(theirs[0].log_prob, abs=1e-4)


def test_what_a_packed_model_cannot_do() -> None:
    packed = tz.pack(small_gpt(), in_place=True)
    assert not any(weight.requires_grad for weight in packed.parameters())
    with pytest.raises(UserError, match="packed model cannot be compiled"):
        generate(packed, [[1]], compile=True)
    with pytest.raises(RuntimeError, match="packed weights cannot be loaded"):
        packed.load_state_dict(small_gpt().state_dict())
    with pytest.raises(RuntimeError, match="packed weights cannot be saved"):
        packed.state_dict()
    with pytest.raises(RuntimeError, match="packed weights cannot be moved or given another dtype"):
        packed.bfloat16()


def test_only_what_gains_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "BIG_WEIGHT", 16 * 32)
    packed = tz.pack(small_gpt(d_model=16, n_heads=2, d_ff=32))
    kinds = {name: type(part) for name, part in packed.named_modules() if name.endswith(("_proj", "head"))}
    assert {name for name, kind in kinds.items() if kind is PackedLinear} == {
        name for name in kinds if name.endswith(("up_proj", "down_proj", "head"))
    }
    with pytest.raises(RuntimeError, match="packed weights cannot be saved"):
        tz.pack(small_gpt(n_layers=1)).state_dict()  # the head is packed however small


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
    monkeypatch.setattr(packing, "has_int8", lambda: True)
    for model in (small_gpt().bfloat16(), tz.pack(small_gpt()), tz.quantize(small_gpt())):
        with pytest.raises(UserError, match="only a model in float32 on a CPU is quantized"):
            tz.quantize(model)
        assert draft_of(model) is None
    assert draft_of(small_gpt()) is None  # too small to gain
    large = small_gpt(vocab_size=900_000)
    assert draft_of(large) is not None
    monkeypatch.setattr(packing, "has_int8", lambda: False)
    assert draft_of(large) is None


@pytest.mark.parametrize("changes", GPT_VARIANTS.values(), ids=GPT_VARIANTS.keys())
def test_the_highest_logit_of_a_quantized_head_is_the_models(changes: dict[str, object]) -> None:
    model = small_gpt(**changes)
    with torch.no_grad():
        model.head_weight[53:] = 9  # rows that pad the vocabulary are not tokens
    quantized, hidden = tz.quantize(model), model.hidden(torch.randint(53, (3, 11)))
    wanted, got = model.logits(hidden), quantized.logits(hidden)
    assert got.shape == wanted.shape
    assert torch.equal(got.argmax(-1), wanted.argmax(-1))
    torch.testing.assert_close(got.amax(-1), wanted.amax(-1))
    assert (got - wanted).norm() < 0.05 * wanted.norm()


@pytest.mark.parametrize("build", [small_gpt, small_model])
def test_packing_leaves_the_model_its_weights(build: Callable[..., Any]) -> None:
    model = build().train()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    packed = tz.pack(model)
    assert packed is not model
    assert (model.training, packed.training) == (True, False)
    assert all(weight.requires_grad for weight in model.parameters())
    torch.testing.assert_close(model.state_dict(), before, atol=0, rtol=0)
    assert packed.decoder.layers[0].attn_norm.weight is model.decoder.layers[0].attn_norm.weight
    call(model).sum().backward()
    assert all(weight.grad is not None for weight in model.parameters())


def call(model: Any) -> torch.Tensor:
    ids = torch.tensor([[4, 5, 6]])
    logits: torch.Tensor = model(ids) if isinstance(model, tz.DecoderOnly) else model(ids, ids)
    return logits


def write(model: Any, draft: Any = None) -> object:
    if isinstance(model, tz.DecoderOnly):
        return generate(model, [[4, 5]], max_new_tokens=3, draft=draft, seed=0)
    return greedily(model, [[4, 5, 3]], draft=draft)


def step(model: Any) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    call(model).square().sum().backward()
    optimizer.step()


def changed(model: Any) -> dict[str, torch.Tensor]:
    return {name: weight + 0.1 for name, weight in model.state_dict().items()}


def write_data(model: Any) -> None:
    for weight in model.parameters():
        weight.data.mul_(1.01)


def replace_data(model: Any) -> None:
    for weight in model.parameters():
        weight.data = weight.data * 1.01


def write_numpy(model: Any) -> None:
    for weight in model.parameters():
        weight.detach().numpy()[...] *= 1.01


def one_projection(model: Any) -> None:
    with torch.no_grad():
        model.decoder.layers[1].ffn.down_proj.weight[0, 0] += 1


def head(model: Any) -> None:
    with torch.no_grad():
        model.head_weight[5, 0] += 1


COUNTED = (step, lambda model: model.load_state_dict(changed(model)), one_projection, head)
NOT_COUNTED = (
    lambda model: model.load_state_dict(changed(model), assign=True),
    write_data,
    replace_data,
    write_numpy,
    lambda model: model.double(),
)


@pytest.mark.parametrize("build", [small_gpt, small_model])
@pytest.mark.parametrize("change", COUNTED + NOT_COUNTED)
def test_a_draft_of_weights_that_have_changed_is_refused(
    build: Callable[..., Any], change: Callable[[Any], object]
) -> None:
    model = build(share_embeddings="none") if build is small_model else build(tie_embeddings=False)
    draft = tz.quantize(model)
    write(model, draft)
    change(model)
    with pytest.raises(UserError, match=r"weights have changed since|not of this model as it is now"):
        write(model, draft)
    if model.head_weight.dtype == torch.float32:
        write(model, tz.quantize(model))


@pytest.mark.parametrize("build", [small_gpt, small_model])
@pytest.mark.parametrize("change", COUNTED)
def test_a_copy_of_weights_that_have_changed_is_of_no_use(
    build: Callable[..., Any], change: Callable[[Any], object]
) -> None:
    model = build()
    copies = tz.pack(model), tz.quantize(model)
    change(model)
    for stale in copies:
        for use in (call, write):
            with pytest.raises(UserError, match="weights have changed since this copy was made"):
                use(stale)


def test_a_packed_model_keeps_its_draft() -> None:
    model = small_gpt()
    draft = tz.quantize(model)
    wanted = write(model, draft)
    packed = tz.pack(model)
    assert write(packed, draft) == wanted
    with pytest.raises(UserError, match="give quantize"):
        write(small_gpt(), draft)
    with pytest.raises(UserError, match="give quantize"):
        write(tz.pack(small_gpt()), draft)
    assert write(tz.pack(model, in_place=True), draft) == wanted


@pytest.mark.parametrize("function", [tz.pack, tz.quantize, draft_of])
def test_only_models_are_packed(function: Callable[[Any], object]) -> None:
    with pytest.raises(UserError, match="takes a DecoderOnly or an EncoderDecoder, not a Linear"):
        function(torch.nn.Linear(2, 2))


@pytest.mark.filterwarnings("ignore")  # torch's, that this way is not its newest
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("build", [small_gpt, small_model])
def test_torch_quantizes_every_projection_too(build: Callable[..., Any], tied: bool) -> None:
    own_head: dict[str, Any] = {"share_embeddings": "none"} if build is small_model else {"tie_embeddings": False}
    model = build() if tied else build(**own_head)
    n_linear = sum(isinstance(part, torch.nn.Linear) for part in model.modules())
    for part in model.modules():
        if type(part) is Linear:
            part.__class__ = torch.nn.Linear  # of which `torch.ao` asks for the exact type
    quantized = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    found = sum(type(part) is torch.ao.nn.quantized.dynamic.Linear for part in quantized.modules())
    assert found == n_linear > 10
    assert (call(quantized) - call(model)).norm() < 0.05 * call(model).norm()
    if tied:
        write(quantized)


def test_a_quantized_model_writes_by_itself() -> None:
    """Its cache is not of the 8 bits of its weights."""
    model = small_gpt()
    quantized = tz.quantize(model)
    assert quantized.new_cache(1, 4).layers[0].keys.dtype == torch.float32
    ids = torch.tensor([[4, 5, 6, 7]])
    with torch.no_grad():
        cache = quantized.new_cache(1, 4)
        parts = [quantized(part, cache=cache) for part in ids.split(2, 1)]
        torch.testing.assert_close(torch.cat(parts, 1), quantized(ids), atol=0.1, rtol=0.1)
