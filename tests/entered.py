"""Which named functions of the package a call enters: what somebody who follows it in a debugger has to know."""

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import transformer_zoo

PACKAGE = str(Path(transformer_zoo.__file__).parent)


def entered(call: Callable[[], object]) -> dict[str, set[str]]:
    """File of the package -> the functions in it that the call enters, made for the second time.

    Lambdas, comprehensions and class bodies have no name, and count as part of what they stand in.
    """
    call()
    codes: set[CodeType] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            codes.add(frame.f_code)

    sys.setprofile(note)
    try:
        call()
    finally:
        sys.setprofile(None)
    found: dict[str, set[str]] = {}
    for code in codes:
        if not code.co_name.startswith("<"):
            found.setdefault(code.co_filename.removeprefix(PACKAGE)[1:], set()).add(code.co_qualname)
    return found


def n_entered(call: Callable[[], object]) -> int:
    """How many they are."""
    return sum(map(len, entered(call).values()))
