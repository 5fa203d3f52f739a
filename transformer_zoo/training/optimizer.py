"""Adam and AdamW over a model's parameters."""

from torch import nn
from torch.optim import Adam, AdamW, Optimizer

from transformer_zoo.errors import UserError
from transformer_zoo.training.config import OptimizerConfig


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> Optimizer:
    """Adam or AdamW with torch's fused kernel, which CPU and CUDA both have.

    Weight decay goes to parameters of two or more dimensions; norms and biases have one.

    Raises:
        UserError: weight decay with plain Adam, whose L2 term is not decoupled.
    """
    if config.weight_decay and config.name == "adam":
        raise UserError("optimizer.weight_decay needs optimizer.name: adamw")
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    fused = all(p.device.type in ("cpu", "cuda") and p.is_floating_point() for p in parameters)
    kind = AdamW if config.name == "adamw" else Adam
    return kind(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=fused)


def set_learning_rate(optimizer: Optimizer, lr: float) -> None:
    """Sets the learning rate of every group."""
    for group in optimizer.param_groups:
        group["lr"] = lr
