"""How weights are drawn. The modules say what each of their weights is (`answers`)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from transformer_zoo.blocks.answers import initialise
from transformer_zoo.blocks.arguments import check_positive, check_sizes


@dataclass(frozen=True)
class _Xavier:
    def matrix(self, weight: Tensor, *, adds: bool, rows_of: int) -> None:
        nn.init.xavier_uniform_(weight, gain=(2 / (1 + rows_of)) ** 0.5)

    def lookup(self, weight: Tensor) -> None:
        pass


@dataclass(frozen=True)
class _Normal:
    """Draws with one standard deviation. None is inputs^-0.5 for a matrix, and leaves a table of vectors as it is."""

    std: float | None
    of_last: float

    def matrix(self, weight: Tensor, *, adds: bool, rows_of: int) -> None:
        std = weight.size(1) ** -0.5 if self.std is None else self.std
        nn.init.normal_(weight, std=self.of_last if adds else std)

    def lookup(self, weight: Tensor) -> None:
        if self.std is not None:
            nn.init.normal_(weight, std=self.std)


@torch.no_grad()
def init_xavier(module: nn.Module) -> None:
    """Xavier: every matrix is drawn from the uniform distribution of Glorot & Bengio 2010, biases are zero.

    Embeddings set themselves. The projections of queries, keys and values start smaller, by 1 / sqrt(2), as the rows of
    one (3D, D) matrix would. `nn.Transformer` and fairseq start them so, and post-norm trains well from it.
    >>> init_xavier(linear := Linear(512, 1024))
    >>> round(linear.weight.max().item(), 3), (6 / (512 + 1024)) ** 0.5
    (0.062, 0.0625)
    """
    initialise(module, _Xavier())


@torch.no_grad()
def init_normal(module: nn.Module, *, std: float = 0.02) -> None:
    """BERT: every matrix and every embedding is drawn from N(0, std^2), biases are zero (Devlin et al. 2019).
    >>> init_normal(linear := Linear(512, 1024))
    >>> round(linear.weight.std().item(), 3)
    0.02
    """
    check_positive(std=std)
    initialise(module, _Normal(std, of_last=std))


@torch.no_grad()
def init_gpt2(module: nn.Module, n_layers: int, *, std: float = 0.02) -> None:
    """GPT-2: every matrix is drawn from N(0, std^2), biases are zero (Radford et al. 2019, section 2.3).

    The last projection of each sublayer gets std / sqrt(2 n_layers): 2 n_layers of them add to the residual stream,
    which then does not grow with depth.
    >>> init_gpt2(ffn := FeedForward(512, 2048), n_layers=2)
    >>> round(ffn.up_proj.weight.std().item(), 3), round(ffn.down_proj.weight.std().item(), 3)
    (0.02, 0.01)
    """
    check_sizes(n_layers=n_layers)
    check_positive(std=std)
    initialise(module, _Normal(std, of_last=std * (2 * n_layers) ** -0.5))


@torch.no_grad()
def init_zero_out(module: nn.Module) -> None:
    """Every sublayer adds nothing at first: its last projection and its biases are zero (Zhang et al. 2019, "Fixup").

    Other matrices are drawn from N(0, 1 / inputs), which keeps unit variance. Embeddings set themselves.
    >>> init_zero_out(ffn := FeedForward(512, 2048))
    >>> ffn(torch.randn(5, 512)).any().item()
    False
    """
    initialise(module, _Normal(None, of_last=0.0))
