"""What weights do not say is there wherever weights are: tables of positions are computed, not carried along."""

import copy
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from tests.models.helpers import small_gpt, small_model
from transformer_zoo.blocks import AlibiBias, RotaryPositions, SinusoidalPositions
from transformer_zoo.blocks.tables import Tables
from transformer_zoo.config.positions import PositionsSpec, ScalingSpec
from transformer_zoo.config.spec import choices_of, kinds_of
from transformer_zoo.zoo import build

SCALINGS: dict[str, dict[str, Any]] = {
    "linear": {},
    "llama3": {"original_max_seq_len": 8},
    "yarn": {"original_max_seq_len": 8},
}


def layouts(kind: str) -> list[str]:
    return choices_of(next(f.type for f in dataclasses.fields(kinds_of(PositionsSpec)[kind]) if f.name == "layout"))


KINDS: dict[str, dict[str, Any]] = {
    **{name: {"positions": name} for name in (*kinds_of(PositionsSpec), "none")},
    **{
        f"sinusoids {layout}": {"positions": "sinusoidal", "positions.layout": layout}
        for layout in layouts("sinusoidal")
    },
    **{f"rotary {layout}": {"positions": "rotary", "positions.layout": layout} for layout in layouts("rotary")},
    **{
        f"rotary {kind} {layout}": {
            "positions": "rotary",
            "positions.layout": layout,
            "positions.scaling": {"kind": kind, "factor": 4.0, **SCALINGS[kind]},
        }
        for kind in kinds_of(ScalingSpec)
        for layout in layouts("rotary")
    },
    "rotary, some dimensions": {"positions": "rotary", "positions.dim": 4},
    "past the table": {"positions": "rotary", "max_seq_len": 4},
    "offset": {"positions": "sinusoidal", "positions.offset": 2},
}
ONE_SIDED: dict[str, dict[str, Any]] = {
    "n-grams": {"ngrams": {"n": 3, "rows": 101}},
    "narrow": {"d_embedding": 7},
    "logit bias": {"logit_bias": True, "vocab_multiple": 16},
}
TWO_SIDED: dict[str, dict[str, Any]] = {"a constant": {"logit_bias": True}, "uncounted": {"count_padding": False}}
MODELS = [
    *(("gpt", small_gpt, fields) for fields in (KINDS | ONE_SIDED).values()),
    *(("translator", small_model, {"head_dim": 6} | fields) for fields in (KINDS | TWO_SIDED).values()),
]
NAMES = [f"gpt {name}" for name in KINDS | ONE_SIDED] + [f"translator {name}" for name in KINDS | TWO_SIDED]
IDS = torch.tensor([[5, 6, 7, 8, 9, 4], [7, 7, 4, 12, 3, 5]])
MASK = torch.tensor([[False, True, True, True, True, True], [True] * 6])
every_kind = pytest.mark.parametrize("made", MODELS, ids=NAMES)


def logits(model: nn.Module) -> Tensor:
    """With and without a mask."""
    ids = (IDS,) if hasattr(model, "embedding_in") else (IDS, IDS)
    masks = (MASK,) if hasattr(model, "embedding_in") else (MASK, MASK)
    return torch.stack([model(*ids), model(*ids, *masks)])


def spoil_memory() -> None:
    """What is freed here is what `empty` gives."""
    junk = [torch.full((n,), 7.5) for n in (4, 8, 16, 24, 36, 64, 128, 256, 4096) for _ in range(50)]
    del junk


def to_empty(empty: Any, model: Any) -> None:
    spoil_memory()
    empty.to_empty(device="cpu")
    assert str(empty.load_state_dict(model.state_dict())) == "<All keys matched successfully>"


def assign(empty: Any, model: Any) -> None:
    empty.load_state_dict(model.state_dict(), assign=True)


@every_kind
@pytest.mark.parametrize("fill", [to_empty, assign])
def test_a_model_from_the_meta_device_has_the_saved_models_logits(
    made: tuple[str, Callable[..., Any], dict[str, Any]], fill: Callable[[Any, Any], None]
) -> None:
    _, make, fields = made
    model = make(**fields)
    with torch.device("meta"):
        empty = build(model.config).eval()
    fill(empty, model)
    assert torch.equal(logits(empty), logits(model))


@every_kind
def test_other_ways_of_being_copied(made: tuple[str, Callable[..., Any], dict[str, Any]]) -> None:
    _, make, fields = made
    model = make(**fields)
    wanted = logits(model)
    assert torch.equal(logits(copy.deepcopy(model)), wanted)
    spoiled = copy.deepcopy(model).to_empty(device="cpu")
    spoiled.load_state_dict(model.state_dict())
    assert torch.equal(logits(spoiled), wanted)
    away = copy.deepcopy(model).to("meta").to_empty(device="cpu")
    away.load_state_dict(model.state_dict())
    assert torch.equal(logits(away), wanted)


@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_tables_survive_another_dtype(made: tuple[str, Callable[..., Any], dict[str, Any]], dtype: torch.dtype) -> None:
    _, make, fields = made
    model = make(**fields)
    wanted = logits(model)
    other = copy.deepcopy(model).to(dtype)
    got = logits(other)
    assert got.dtype == dtype
    torch.testing.assert_close(got.float(), wanted, atol=0.3, rtol=0.1)
    back = other.float()
    back.load_state_dict(model.state_dict())
    assert torch.equal(logits(back), wanted)


@pytest.mark.parametrize("make", [lambda: RotaryPositions(8), lambda: SinusoidalPositions(12), lambda: AlibiBias(6)])
def test_every_module_with_tables(make: Callable[[], Tables]) -> None:
    module, other = make(), make().half().to("meta").to_empty(device="cpu")
    assert other.dtype == torch.float16
    for name, table in module.named_buffers():
        assert table.dtype == other.get_buffer(name).dtype == torch.float32
        assert torch.equal(table, other.get_buffer(name))
    assert not module.state_dict()


def test_positions_of_a_half_module_are_half() -> None:
    module = SinusoidalPositions(12, table_size=4).half()
    for given in (module(3), module(9), module(1, torch.arange(3)[None])):
        assert given.dtype == torch.float16


def test_far_positions_are_not_rounded() -> None:
    """In half precision there is no place 2049."""
    wanted, got = (
        RotaryPositions(8, table_size=5000)(2049, 2050),
        RotaryPositions(8, table_size=5000).half()(2049, 2050),
    )
    assert torch.equal(wanted.cos, got.cos)
    assert torch.equal(wanted.sin, got.sin)


@pytest.fixture
def _alone() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:FSDP2-wrapped module .* returned a view tensor")
@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("on_meta", [False, True])
@every_kind
def test_sharded_by_fsdp(made: tuple[str, Callable[..., Any], dict[str, Any]], on_meta: bool) -> None:
    _, make, fields = made
    model = make(**fields)
    with torch.device("meta" if on_meta else "cpu"):
        sharded: Any = build(model.config).eval()
    mesh = init_device_mesh("cpu", (1,))
    for stack in (getattr(sharded, "encoder", None), sharded.decoder):
        for layer in [] if stack is None else stack.layers:
            fully_shard(layer, mesh=mesh)
    fully_shard(sharded, mesh=mesh)
    if on_meta:
        spoil_memory()
        sharded.to_empty(device="cpu")
    state = model.state_dict()
    with torch.no_grad():
        for name, weight in sharded.state_dict().items():
            (weight.to_local() if hasattr(weight, "to_local") else weight).copy_(state[name])
    torch.testing.assert_close(logits(sharded), logits(model), atol=1e-6, rtol=1e-5)
