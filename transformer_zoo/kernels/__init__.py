"""What makes a formula fast: one file an operation, which opens with the formula as a plain function.

A block calls the kernel by its name, and its docstring has the equation. A kernel stays only where a benchmark of this
repository (`recipes/benchmarks/kernels.py`) has it at least 1.15 times as fast as torch's own way; its file ends with
that figure. It can be differentiated as often as the formula, or gives way to it; each private operation of torch that
it calls is tried once, and has a way round.
"""

from transformer_zoo.kernels.derivatives import plain

__all__ = ["plain"]
