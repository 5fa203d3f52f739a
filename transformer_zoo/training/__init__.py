"""Loop, loss, optimizer, schedule, checkpoints, processes and logging. Only `tasks` knows families of models."""

from importlib import import_module
from pkgutil import iter_modules
from typing import Any

_MODULES = sorted(module.name for module in iter_modules(__path__))


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")  # when it is first asked for: most need torch


def __dir__() -> list[str]:
    return _MODULES
