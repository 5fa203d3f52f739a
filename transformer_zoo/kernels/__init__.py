"""Fast ways to compute formulas: one file for each operation, which begins with the formula as a plain function.

A block calls the kernel by its name, and the block's docstring has the equation. A kernel stays only if a benchmark of
this repository (`recipes/benchmarks/kernels.py`) finds it at least 1.15 times as fast as torch's own way; its file ends
with that figure. It can be differentiated as often as the formula, or the formula replaces it where it cannot. Each
private operation of torch that it calls is tried once, and has an alternative.
"""

from transformer_zoo.kernels.derivatives import plain

__all__ = ["plain"]
