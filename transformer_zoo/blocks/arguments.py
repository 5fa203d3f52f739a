"""The one check of a block's arguments: what a configuration refuses, a block refuses too, in the same words.

Each function takes arguments by name. It raises ValueError where one of them is wrong.
"""

import math
from collections.abc import Collection
from typing import Any

from torch import SymInt

_WHOLE = (int, SymInt)  # a compiler's stand for any


def check_sizes(*, least: int = 1, optional: bool = False, **sizes: Any) -> None:
    """Check whole numbers of at least `least`; None is allowed where they are optional."""
    for name, value in sizes.items():
        if not (optional and value is None) and not (type(value) in _WHOLE and value >= least):
            raise ValueError(f"{name} is {value!r}, expected a whole number of at least {least}")


def check_positive(*, optional: bool = False, **numbers: Any) -> None:
    """Check finite numbers above 0; None is allowed where they are optional."""
    for name, value in numbers.items():
        if not (optional and value is None) and not (_is_number(value) and 0 < value < math.inf):
            raise ValueError(f"{name} is {value!r}, expected a number above 0")


def check_probabilities(**probabilities: Any) -> None:
    """Check numbers from 0 up to, but not including, 1."""
    for name, value in probabilities.items():
        if not (_is_number(value) and 0 <= value < 1):
            raise ValueError(f"{name} is {value!r}, expected a probability from 0 up to, not including, 1")


def check_flags(*, optional: bool = False, **flags: Any) -> None:
    """Check for True or False; None is allowed where they are optional."""
    for name, value in flags.items():
        if not (optional and value is None) and not isinstance(value, bool):
            raise ValueError(f"{name} is {value!r}, expected True or False")


def check_choice(choices: Collection[str], **chosen: Any) -> None:
    """Check for one of the choices."""
    for name, value in chosen.items():
        if not isinstance(value, str) or value not in choices:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(choices)}")


def check_cut(n: int, **sizes: int) -> None:
    """Sizes that each of n processes computes a share of. ValueError: they do not divide; it says what would."""
    common = math.gcd(*sizes.values())
    if common % n:
        said = ", ".join(f"{name} {value}" for name, value in sizes.items())
        fitting = ", ".join(str(m) for m in range(1, common + 1) if common % m == 0)
        raise ValueError(f"{said}: not to be cut in {n}; {fitting} would do")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
