"""`transformer-zoo list`, `describe`, `plan`: the architectures, the parts of one, and how much of it fits a GPU."""

import dataclasses
import json as jsonlib
from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

import yaml
from jsonargparse.typing import PositiveFloat, PositiveInt

from transformer_zoo.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from transformer_zoo.errors import UsageError, UserError
from transformer_zoo.training.overrides import overridden, overrides_of
from transformer_zoo.zoo import get_config, list_models
from transformer_zoo.zoo.counts import recorded_counts
from transformer_zoo.zoo.families import FAMILIES
from transformer_zoo.zoo.huggingface.family import Family

if TYPE_CHECKING:
    Overrides = Any
else:
    Overrides = overrides_of(EncoderDecoderConfig, DecoderConfig, EncoderConfig, nested=False)


def list_(pattern: str = "*", /, families: bool = False, json: bool = False) -> None:
    """List the architectures of the zoo with their numbers of parameters.

    Args:
        pattern: Only names that match this shell pattern, such as "gpt2*".
        families: List families instead, by their model_type in config.json; their weights can be imported and exported.
        json: Print JSON instead.

    Examples:
        transformer-zoo list
        transformer-zoo list "gpt2*"
        transformer-zoo list --families
    """
    if families:
        _list_families(pattern, json=json)
        return
    names = _names(pattern)
    counts = {name: count for name, count in recorded_counts().items() if name in names}
    if json:
        print(jsonlib.dumps(counts, indent=2))
        return
    width = max(map(len, names))
    for name, count in counts.items():
        print(f"{name:{width}}  {count:>15,}")


def _list_families(pattern: str, *, json: bool) -> None:
    """Each family with its class in transformers, its sizes, and the fields for which it refuses some values."""
    if not (kinds := [kind for kind in FAMILIES if fnmatchcase(kind, pattern)]):
        raise UserError(f"no family is called {pattern!r}; `transformer-zoo list --families` names all {len(FAMILIES)}")
    counts = recorded_counts()
    if json:
        print(jsonlib.dumps({kind: _family(FAMILIES[kind], counts) for kind in kinds}, indent=2))
        return
    width = max(map(len, kinds))
    for kind in kinds:
        sizes = [f"{name} {counts[name]:,}" for name in FAMILIES[kind].sizes]
        shown = sizes if len(sizes) < 3 else [sizes[0], "...", sizes[-1]]
        print(f"{kind:{width}}  {len(sizes):2}  {'  '.join(shown)}".rstrip())


def _family(family: Family, counts: Mapping[str, int]) -> dict[str, Any]:
    sizes = {name: counts[name] for name in family.sizes}
    return {"architecture": family.architecture, "sizes": sizes, "limits": sorted(family.limits)}


def describe(
    name: str,
    overrides: Overrides,
    change: Sequence[str] = (),
    context: PositiveInt | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    json: bool = False,
) -> None:
    """Print what an architecture is made of: parameters part by part, operations, memory.

    Fields that are often changed have options; every other field of the configuration is changed by its address.

    Args:
        name: Name of an architecture, as `transformer-zoo list` prints it.
        change: Fields with their values, such as decoder.positions.base=500000; --json shows all fields.
        context: Number of tokens of a text, for operations and cache; by default max_seq_len.
        dtype: Type of weights and cache, for memory.
        json: Print JSON instead.

    Examples:
        transformer-zoo describe gpt2
        transformer-zoo describe gpt-modern --d-model 384 --n-layers 6 --n-heads 6
        transformer-zoo describe transformer-base --context 128 --dtype bfloat16
    """
    import torch

    from transformer_zoo.zoo.describe import describe as figures_of

    config = get_config(name, **overridden(overrides), **dict(map(_named_value, change)))
    found = figures_of(config, context=context, dtype=getattr(torch, dtype))
    if json:
        print(jsonlib.dumps({"name": name, "config": config.to_dict(), **dataclasses.asdict(found)}, indent=2))
        return
    rows = [(part, f"{count:,}") for part, count in found.parameters]
    rows.append(("total parameters", f"{found.total:,}"))
    each = "token of either side" if isinstance(config, EncoderDecoderConfig) else "token"
    rows.append((f"operations per {each}, forward, context {found.context:,}", f"{found.forward_flops:,}"))
    rows.append((f"operations per {each}, training", f"{3 * found.forward_flops:,}"))
    rows.append((f"weights, {dtype}", _size(found.weight_bytes)))
    has_window = any(layer.attention.window for _, stack in config.stacks() for layer in stack.layers)
    kept = ", those outside the window too" if has_window else ""
    rows.append((f"cache of a text of {found.context:,} tokens{kept}, {dtype}", _size(found.cache_bytes)))
    left, right = (max(len(row[i]) for row in rows) for i in range(2))
    for label, value in rows:
        print(f"{label:{left}}  {value:>{right}}")


@dataclasses.dataclass
class PlannedTraining:
    """The conditions of a plan.

    Args:
        memory: Sizes of GPUs, in GB; by default 24, 40, 80 and 141.
        optimizer: Optimizer, as in a recipe.
        length: Number of tokens of a window, by default 2,048, or of a sentence on either side, by default 64; at most
            max_seq_len.
        recompute: As training.recompute of a GPT or an encoder.
    """

    memory: list[PositiveFloat] = dataclasses.field(default_factory=lambda: [24, 40, 80, 141])
    optimizer: Literal["adam", "adamw", "muon"] = "adamw"
    length: PositiveInt | None = None
    recompute: bool = False


def plan(pattern: str = "*", /, *, training: PlannedTraining, json: bool = False) -> None:
    """Print the largest `training.batch_tokens` that fits the memory of one GPU, for training in bfloat16.

    It is counted on a model without memory: weights, gradients, the optimizer's state, activations that are kept for
    the backward pass, and logits as the loss holds them. docs/gpu_memory.md says what is not counted.

    Args:
        pattern: Only architectures that match this shell pattern, such as "gpt2*".
        training: How the model is trained.
        json: Print JSON instead.

    Examples:
        transformer-zoo plan
        transformer-zoo plan "gpt2*" --memory 24 80
        transformer-zoo plan gpt2 --length 1024 --optimizer muon
    """
    from transformer_zoo.training.config import OptimizerConfig, RunConfig
    from transformer_zoo.training.memory import most_tokens

    run = RunConfig(run_dir="plan", optimizer=OptimizerConfig(name=training.optimizer))
    names, sizes = _names(pattern), [f"{size:g} GB" for size in training.memory]
    found: dict[str, dict[str, int]] = {}
    width = max(map(len, names))
    if not json:
        print(" " * width, *(f"{title:>10}" for title in ("length", *sizes)))
    for name in names:
        config = get_config(name)
        usual = 64 if isinstance(config, EncoderDecoderConfig) else 2048
        length = min(training.length or usual, config.max_seq_len)
        recompute = training.recompute and not isinstance(config, EncoderDecoderConfig)
        most = most_tokens(config, run, training.memory, length=length, recompute=recompute)
        found[name] = {"length": length, **dict(zip(sizes, most, strict=True))}
        if not json:
            print(f"{name:{width}}", *(f"{n:>10,}" if n else f"{'-':>10}" for n in found[name].values()), flush=True)
    if json:
        print(jsonlib.dumps(found, indent=2))


def _names(pattern: str) -> list[str]:
    if not (names := list_models(pattern)):
        raise UserError(f"no architecture is called {pattern!r}; `transformer-zoo list` names all {len(list_models())}")
    return names


def _named_value(word: str) -> tuple[str, Any]:
    """A field and its value, as YAML writes it."""
    name, equals, value = word.partition("=")
    if not equals:
        raise UsageError(f"--change {word}: write a field and its value, such as decoder.norm.eps=1.0e-6")
    try:
        return name, yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise UsageError(f"--change {word}: {error}") from None


def _size(n_bytes: int) -> str:
    power = min((max(n_bytes, 1).bit_length() - 1) // 10, 4)
    return f"{n_bytes / 1024**power:,.1f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
