"""The Transformer: blocks, encoder-decoder, decoder-only and encoder-only models, recipes that train them.

>>> import transformer_zoo as tz
>>> tz.list_models("transformer-*")
['transformer-tiny', 'transformer-small', 'transformer-iwslt', 'transformer-base', 'transformer-big']

An example in a docstring continues from `import numpy as np, torch, transformer_zoo as tz`, from the public names of
its package (`from transformer_zoo.blocks import *`), and from the example in that package's own docstring.
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from transformer_zoo.config import BeamSearch, DecoderConfig, EncoderConfig, EncoderDecoderConfig, Sampling
from transformer_zoo.errors import UserError
from transformer_zoo.zoo import create_model, get_config, list_models

if TYPE_CHECKING:
    from transformer_zoo.inference import (
        beam_search,
        classify,
        classify_tokens,
        embed,
        generate,
        generate_stream,
        pack,
        quantize,
    )
    from transformer_zoo.models import DecoderOnly, EncoderDecoder, EncoderOnly
    from transformer_zoo.runs import load_run, scorer, translator, writer
    from transformer_zoo.zoo.huggingface import from_huggingface, to_huggingface

__version__ = "0.2.0"
__all__ = [
    "BeamSearch",
    "DecoderConfig",
    "DecoderOnly",
    "EncoderConfig",
    "EncoderDecoder",
    "EncoderDecoderConfig",
    "EncoderOnly",
    "Sampling",
    "UserError",
    "beam_search",
    "classify",
    "classify_tokens",
    "create_model",
    "embed",
    "from_huggingface",
    "generate",
    "generate_stream",
    "get_config",
    "list_models",
    "load_run",
    "pack",
    "quantize",
    "scorer",
    "to_huggingface",
    "translator",
    "writer",
]

# These need torch, which takes seconds to load. So they are imported on first use, and so are the packages.
_LAZY = {
    "DecoderOnly": "transformer_zoo.models",
    "EncoderDecoder": "transformer_zoo.models",
    "EncoderOnly": "transformer_zoo.models",
    "from_huggingface": "transformer_zoo.zoo.huggingface",
    "beam_search": "transformer_zoo.inference",
    "classify": "transformer_zoo.inference",
    "classify_tokens": "transformer_zoo.inference",
    "embed": "transformer_zoo.inference",
    "generate": "transformer_zoo.inference",
    "generate_stream": "transformer_zoo.inference",
    "load_run": "transformer_zoo.runs",
    "pack": "transformer_zoo.inference",
    "quantize": "transformer_zoo.inference",
    "scorer": "transformer_zoo.runs",
    "to_huggingface": "transformer_zoo.zoo.huggingface",
    "translator": "transformer_zoo.runs",
    "writer": "transformer_zoo.runs",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _rooms():
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*__all__, "__version__", *_rooms()})


def _rooms() -> set[str]:
    return {module.name for module in iter_modules(__path__)} - {"__main__"}
