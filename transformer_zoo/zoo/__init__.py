"""Named architectures: presets are data, `create_model` builds them."""

from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from transformer_zoo.config import DecoderConfig, EncoderDecoderConfig, check_field_names
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.presets import PRESETS

if TYPE_CHECKING:
    import torch

    from transformer_zoo.models import DecoderOnly, EncoderDecoder


def list_models(pattern: str = "*") -> list[str]:
    """Names of the presets that match a shell pattern, such as "transformer-*"."""
    return [name for name in PRESETS if fnmatchcase(name, pattern)]


def get_config(name: str, **overrides: Any) -> EncoderDecoderConfig | DecoderConfig:
    """The configuration of a preset, with some of its fields replaced.

    Raises:
        UserError: no preset has that name, or a field does not exist or does not fit.
    """
    if name not in PRESETS:
        near = get_close_matches(name, PRESETS, n=6)
        like_it = f"like it are {', '.join(near)}; " if near else ""
        raise UserError(f"no architecture is called {name!r}; {like_it}`transformer-zoo list` names all {len(PRESETS)}")
    config = PRESETS[name]
    check_field_names(type(config), overrides, partial=True)
    return type(config).from_dict({**config.to_dict(), **overrides})


def create_model(name: str, **overrides: Any) -> "EncoderDecoder | DecoderOnly":
    """A preset with fresh weights: `create_model("transformer-base", vocab_size=37000)`. Errors as for `get_config`."""
    return build(get_config(name, **overrides))


def build(config: EncoderDecoderConfig | DecoderConfig) -> "EncoderDecoder | DecoderOnly":
    """The model of a configuration, with fresh weights."""
    from transformer_zoo.models import DecoderOnly, EncoderDecoder  # torch is loaded only when something is built

    return EncoderDecoder(config) if isinstance(config, EncoderDecoderConfig) else DecoderOnly(config)


def build_empty(
    config: EncoderDecoderConfig | DecoderConfig, *, device: "str | torch.device" = "cpu", dtype: "torch.dtype"
) -> "EncoderDecoder | DecoderOnly":
    """The model of a configuration, its weights to be filled in: their memory is reserved and not written to."""
    from transformer_zoo.zoo.empty import uninitialised

    with uninitialised(device, dtype):
        model = build(config)
    return model.to(dtype)  # what is computed at once, such as sinusoids, comes in float32


__all__ = ["PRESETS", "build", "build_empty", "create_model", "get_config", "list_models"]
