"""Named architectures: families are data, and `create_model` builds them."""

from collections.abc import Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, overload

from transformer_zoo.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig, ModelConfig
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.families import SIZES

if TYPE_CHECKING:
    import torch

    from transformer_zoo.models import AnyModel, DecoderOnly, EncoderDecoder, EncoderOnly


def list_models(pattern: str = "*") -> list[str]:
    """Names of the architectures that match a shell pattern, such as "transformer-*".
    >>> list_models("gpt2-x*")
    ['gpt2-xl']
    """
    return [name for name in SIZES if fnmatchcase(name, pattern)]


def get_config(name: str, **overrides: Any) -> EncoderDecoderConfig | DecoderConfig | EncoderConfig:
    """The configuration of an architecture of the zoo, with some of its fields replaced.

    Names of fields are those of `ModelConfig.changed`: `get_config("gpt2", d_model=64, n_heads=4, positions="rotary")`.
    A field inside a part is named with a dot: `get_config("llama-2-7b", **{"positions.base": 5e5})`.

    If `vocab_size` is too small for the special tokens of the architecture, they become its last ids, in the same
    order. So `get_config("gpt2", vocab_size=65)` ends texts with id 64, as GPT-2 ends them with its last id. If the
    last id is another token, such as the last of 65 characters, give `eos_id=None`, or the right id.
    >>> get_config("transformer-base", n_layers=2).d_model
    512

    Raises:
        UserError: no architecture has that name, a field does not exist or does not fit, or the vocabulary has no space
            for its special tokens.
    """
    if name not in SIZES:
        near = get_close_matches(name, SIZES, n=6)
        like_it = f"like it are {', '.join(near)}; " if near else ""
        raise UserError(f"no architecture is called {name!r}; {like_it}`transformer-zoo list` names all {len(SIZES)}")
    config = SIZES[name].preset(name)
    sizes = [overrides.get(name) for name in ("vocab_size", "target_vocab_size")]
    if given := [size for size in sizes if type(size) is int and size > 0]:
        overrides |= _moved_ids(config, overrides, min(given))
    made = config.changed(**overrides)
    assert isinstance(made, EncoderDecoderConfig | DecoderConfig | EncoderConfig)
    return made


def _moved_ids(config: ModelConfig, overrides: Mapping[str, Any], size: int) -> dict[str, Any]:
    """Special tokens of a preset that are beyond a vocabulary of this size; they get its last free ids."""
    names = [name for name in vars(config) if name.endswith(("_id", "_ids"))]
    given = {name: overrides.get(name, getattr(config, name)) for name in names}
    taken = {token for value in given.values() for token in _tokens(value) if token < size}
    kept = {name: value for name, value in given.items() if name not in overrides}
    outside = sorted({token for value in kept.values() for token in _tokens(value) if token >= size})
    free = [token for token in range(max(size - len(outside) - len(taken), 0), size) if token not in taken]
    if len(free) < len(outside):
        raise UserError(f"a vocabulary of {size} has no room for the special tokens: give {', '.join(sorted(kept))}")
    new = dict(zip(outside, free[len(free) - len(outside) :], strict=True))
    return {
        name: tuple(new.get(token, token) for token in value) if isinstance(value, tuple) else new.get(value, value)
        for name, value in kept.items()
        if value is not None
    }


def _tokens(value: Any) -> tuple[int, ...]:
    """The tokens in a field: one, several or none. Values that are not tokens are refused later."""
    several = value if isinstance(value, tuple | list) else (value,)
    return tuple(token for token in several if type(token) is int)


def create_model(name: str, **overrides: Any) -> "AnyModel":
    """An architecture of the zoo with fresh weights: `create_model("transformer-base", vocab_size=37000)`.
    >>> create_model("transformer-tiny", vocab_size=100)(torch.tensor([[5, 3]]), torch.tensor([[2, 7, 7]])).shape
    torch.Size([1, 3, 100])

    Raises:
        UserError: as for `get_config`; or the weights do not fit into memory.
    """
    import torch

    from transformer_zoo.models.memory import check_weights

    config = get_config(name, **overrides)
    check_weights(config, torch.get_default_device(), torch.get_default_dtype())
    return build(config)


@overload
def build(config: DecoderConfig) -> "DecoderOnly": ...
@overload
def build(config: EncoderDecoderConfig) -> "EncoderDecoder": ...
@overload
def build(config: EncoderConfig) -> "EncoderOnly": ...
@overload
def build(config: ModelConfig) -> Any: ...
def build(config: ModelConfig) -> Any:
    """The model of a configuration, with fresh weights.
    >>> build(get_config("gpt-nano", n_layers=1))(torch.tensor([[5, 7, 7]])).shape
    torch.Size([1, 3, 65])
    """
    from transformer_zoo.models import build_model  # torch is loaded only when something is built

    return build_model(config)


def build_empty(config: ModelConfig, *, device: "str | torch.device" = "cpu", dtype: "torch.dtype") -> "AnyModel":
    """The model of a configuration without weights: their memory is reserved and not written to.
    >>> build_empty(get_config("gpt-nano"), dtype=torch.bfloat16).head_weight.dtype
    torch.bfloat16
    """
    import torch

    from transformer_zoo.models.empty import uninitialised
    from transformer_zoo.models.memory import check_weights

    check_weights(config, torch.device(device), dtype)
    with uninitialised(device, dtype):
        model = build(config)
    empty: AnyModel = model.to(dtype)
    return empty  # what is computed at once, such as sinusoids, comes in float32


__all__ = ["build", "build_empty", "create_model", "get_config", "list_models"]
