"""Adam as configured, and weight decay where it belongs."""

import pytest
import torch
from torch import nn

from transformer_zoo.training.config import OptimizerConfig
from transformer_zoo.training.optimizer import make_optimizer


def test_decay_touches_matrices_and_neither_norms_nor_biases() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5))
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = make_optimizer(model, OptimizerConfig(name="adamw", weight_decay=0.1), lr=0.5)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for old, new in zip(before, model.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old * (0.95 if old.ndim == 2 else 1.0))


def test_adam_has_the_papers_constants_by_default() -> None:
    optimizer = make_optimizer(nn.Linear(3, 5), OptimizerConfig(name="adam"), lr=1e-3)
    for group in optimizer.param_groups:
        assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.98), 1e-9, 0)


def test_every_parameter_is_in_one_group_and_gets_the_learning_rate() -> None:
    model = nn.Sequential(nn.Embedding(7, 3), nn.Linear(3, 5))
    optimizer = make_optimizer(model, OptimizerConfig(name="adam"), lr=1e-3)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    optimizer.set_learning_rate(0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_what_adam_does_beside_muon_peaks_where_adam_lr_says() -> None:
    model = nn.ModuleDict({"q_proj": nn.Linear(5, 5), "head": nn.Linear(5, 7)})
    model.stacks = ("q_proj",)
    optimizer = make_optimizer(model, OptimizerConfig(name="muon", adam_lr=0.002), lr=0.01)
    optimizer.set_learning_rate(0.005)
    muon, *adam = (group["lr"] for group in optimizer.param_groups)
    assert muon == 0.005
    assert adam == pytest.approx([0.001, 0.001])


def test_a_run_goes_on_with_its_own_constants_and_not_those_of_the_checkpoint() -> None:
    model = nn.ModuleDict({"q_proj": nn.Linear(5, 5), "head": nn.Linear(5, 7)})
    model.stacks = ("q_proj",)
    before = make_optimizer(model, OptimizerConfig(name="muon", momentum=0.8, weight_decay=0.3), lr=0.01)
    after = make_optimizer(model, OptimizerConfig(name="muon", adam_lr=0.02, betas=(0.5, 0.6), eps=1e-3), lr=0.01)
    own = [{name: value for name, value in group.items() if name != "params"} for group in after.param_groups]
    after.load_state_dict(before.state_dict())
    assert [{name: value for name, value in group.items() if name != "params"} for group in after.param_groups] == own


@pytest.mark.parametrize(("device", "fused"), [("cpu", True), ("meta", False)])
@pytest.mark.parametrize("name", ["adam", "adamw", "muon"])
def test_the_fused_kernel_is_for_devices_that_have_it(name: str, device: str, fused: bool) -> None:
    model = nn.Linear(3, 5, device=device)
    optimizer = make_optimizer(model, OptimizerConfig(name=name), lr=1e-3)  # type: ignore[arg-type]
    assert optimizer.parts[-1].defaults["fused"] is fused
