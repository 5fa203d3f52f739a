"""The kinds of tokenizers. Each has a file with the name of the kind, which has one class with this `kind`."""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

from transformer_zoo.errors import UserError

if TYPE_CHECKING:
    from transformer_zoo.tokenizers.tokenizer import Tokenizer

KINDS = tuple(module.name for module in iter_modules(__path__))


def kind_of(kind: str) -> "type[Tokenizer]":
    """The class of a kind. UserError: there is no such kind."""
    from transformer_zoo.tokenizers.saved import Saved
    from transformer_zoo.tokenizers.tokenizer import Tokenizer

    if kind not in KINDS:
        raise UserError(f"kind: no tokenizer {kind!r}; there are {', '.join(KINDS)}")
    import_module(f"{__name__}.{kind}")
    found = Saved.classes[kind]
    assert issubclass(found, Tokenizer)
    return found
