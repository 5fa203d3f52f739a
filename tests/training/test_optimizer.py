"""Adam as configured, and weight decay where it belongs."""

import pytest
import torch
from torch import nn

from transformer_zoo.errors import UserError
from transformer_zoo.training.config import OptimizerConfig
from transformer_zoo.training.optimizer import make_optimizer


def test_decay_touches_matrices_and_neither_norms_nor_biases() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.LayerNorm(5))
    before = [p.detach().clone() for p in model.parameters()]
    optimizer = make_optimizer(model, OptimizerConfig(name="adamw", lr=0.5, weight_decay=0.1))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for old, new in zip(before, model.parameters(), strict=True):
        torch.testing.assert_close(new.detach(), old * (0.95 if old.ndim == 2 else 1.0))


def test_adam_has_the_papers_constants_by_default() -> None:
    optimizer = make_optimizer(nn.Linear(3, 5), OptimizerConfig())
    for group in optimizer.param_groups:
        assert (group["betas"], group["eps"], group["weight_decay"]) == ((0.9, 0.98), 1e-9, 0)


def test_every_parameter_is_in_one_group_and_gets_the_learning_rate() -> None:
    model = nn.Sequential(nn.Embedding(7, 3), nn.Linear(3, 5))
    optimizer = make_optimizer(model, OptimizerConfig())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))
    optimizer.set_learning_rate(0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def test_decay_with_plain_adam_is_refused() -> None:
    with pytest.raises(UserError, match="adamw"):
        make_optimizer(nn.Linear(3, 5), OptimizerConfig(weight_decay=0.1))
