"""Import and export of the weights that people download, in the format of `transformers`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformer_zoo.zoo.huggingface.hub import resolve
    from transformer_zoo.zoo.huggingface.load import from_huggingface
    from transformer_zoo.zoo.huggingface.save import check_huggingface, to_huggingface
    from transformer_zoo.zoo.huggingface.source import read_config

__all__ = ["check_huggingface", "from_huggingface", "read_config", "resolve", "to_huggingface"]

# Families' tables are data and do not need torch; these functions do.
_LAZY = {
    "check_huggingface": "save", "from_huggingface": "load", "read_config": "source", "resolve": "hub",
    "to_huggingface": "save",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
