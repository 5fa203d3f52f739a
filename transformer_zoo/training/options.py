"""From a YAML file and the command line to a typed recipe, and back to YAML."""

import dataclasses
import json
from collections.abc import Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from transformer_zoo.checksums import MARK, read_sealed, seal, verify
from transformer_zoo.config import CHOICES
from transformer_zoo.errors import UserError
from transformer_zoo.files import read_bytes, write_bytes
from transformer_zoo.words import unfit

T = TypeVar("T")

_MOST_VALUES = 100_000  # of a run's recipe, which has some hundred
_LARGEST_RECIPE = 1 << 20  # bytes; nobody writes so much by hand


def parse_recipe(recipe: type[T], arguments: Sequence[str]) -> tuple[T, dict[str, Any]]:
    """The dataclass `recipe` from `RUN.yaml [--section.field value ...]`, and all its fields as plain data.

    A misspelt field, a wrong type or a missing file ends the program with one line and status 2. --help
    explains every field.
    """
    import jsonargparse  # only a command line needs it: the rooms can be imported on a machine that lacks it

    from transformer_zoo.commandline import Parser, refuse

    # --help shows what stands below each field of a dataclass; and no recipe names code that would be imported.
    jsonargparse.set_parsing_settings(
        docstring_parse_attribute_docstrings=True,
        import_path_denylist=["*"],
        import_path_allowlist=["transformer_zoo.data", "transformer_zoo.tokenizers"],
    )
    parser = Parser(
        description=f"Usage: RUN.yaml [--section.field value ...]. {(recipe.__doc__ or '').splitlines()[0]}",
        allow_abbrev=False,
    )
    parser.dashes = ""
    parser.add_argument("--config", action="config", help="The YAML file; `RUN.yaml` alone means the same.")
    parser.add_class_arguments(recipe)
    words = list(arguments)
    if words and not words[0].startswith("-"):
        words = ["--config", *words]
    parser.words = words
    files = [value for option, value in pairwise(words) if option == "--config"]
    for file in [*files, *(word.partition("=")[2] for word in words if word.startswith("--config="))]:
        if wrong := _check_yaml(recipe, file):
            refuse(wrong)
    try:
        given = parser.parse_args(words)
        plain = {name: value for name, value in given.as_dict().items() if name != "config"}
        if wrong := unfit(recipe, plain, ""):
            refuse(wrong)
        fields = parser.instantiate(given) if hasattr(parser, "instantiate") else parser.instantiate_classes(given)
    except Exception as error:  # the parser's errors have no common base
        refuse(parser.explain(str(error)))
    values = {name: value for name, value in vars(fields).items() if name != "config"}
    made = recipe(**values)
    # Through JSON: what YAML calls a list is a tuple here.
    return made, json.loads(json.dumps(dataclasses.asdict(made)))  # type: ignore[call-overload]


def defaults_of(recipe: type) -> dict[str, Any]:
    """What the fields of a recipe are where nobody gives them, as plain data, without those that must be given."""
    found: dict[str, Any] = {}
    for field in dataclasses.fields(recipe):
        if isinstance(field.type, type) and dataclasses.is_dataclass(field.type):
            found[field.name] = defaults_of(field.type)
        elif field.default is not dataclasses.MISSING:
            found[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            found[field.name] = field.default_factory()
    plain: dict[str, Any] = json.loads(json.dumps(found))
    return plain


def _check_yaml(recipe: type, file: str) -> str | None:
    """What is wrong with a recipe's file or its fields, before any value is made of them."""
    try:
        content = read_bytes(Path(file))
        if len(content) > _LARGEST_RECIPE:
            return f"{file}: {len(content):,} bytes are no recipe; give the path of one"
        text = content.decode("utf-8")
        repeated = _repeated_key(yaml.compose(text, yaml.SafeLoader))
        fields = yaml.safe_load(text)
        verify(Path(file), remedy=_CHANGED, warn=False)
    except UnicodeDecodeError:
        return f"{file}: not UTF-8; convert it to UTF-8"
    except UserError as error:
        return str(error)
    except OSError as error:
        return f"{file}: {error.strerror}; give the path of a recipe, such as those beside this program"
    except RecursionError:
        return f"{file}: fields are nested too deeply, or contain themselves"
    except yaml.YAMLError as error:
        return f"{file}: not YAML: {error}"
    except (ValueError, TypeError) as error:  # a date that is none, a list for a name
        return f"{file}: {error}"
    if repeated is not None:
        return f"{file}:{repeated}"
    if not isinstance(fields, dict):
        return f"{file}: {'empty' if fields is None else 'no fields'}; a recipe has lines such as `run_dir: runs/first`"
    wrong = unfit(recipe, fields, "")
    return None if wrong is None else f"{file}: {wrong}"


def _repeated_key(node: yaml.Node | None) -> str | None:
    """Line and name of a field that is there twice, of which YAML takes the last without a word.

    Or of one that is no word, or of what would be copied into another by its name.
    """
    if not isinstance(node, yaml.MappingNode):
        return None
    seen = set()
    for key, value in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            return f"{line}: a field's name is a list or has fields; write a word"
        if key.value in seen:
            return f"{line}: {key.value} is there a second time; put both together"
        seen.add(key.value)
        if found := _repeated_key(value):
            return found
    return None


def save_recipe(path: Path, plain: dict[str, Any]) -> None:
    """Writes the resolved recipe as YAML that can be run again, with its checksum."""
    head = f"# {MARK} is the checksum of this file: remove this line if you change another\n"
    write_bytes(path, seal((head + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)).encode()))


_CHANGED = "put it back, or remove its first line if you changed it by hand"


def _check_size(node: yaml.Node | None) -> None:
    """Refuses what a few aliases of aliases make of a small file: more values than memory holds."""
    sizes: dict[yaml.Node | None, int] = {}

    def size(of: yaml.Node | None) -> int:
        if of not in sizes and isinstance(of, yaml.CollectionNode):
            children = chain.from_iterable(of.value) if isinstance(of, yaml.MappingNode) else of.value
            sizes[of] = 1 + sum(map(size, children))
        return sizes.get(of, 1)

    if size(node) > _MOST_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {_MOST_VALUES:,} values")


def load_recipe(path: Path) -> dict[str, Any]:
    """What `save_recipe` wrote.

    Raises:
        UserError: the file is not there, damaged, or no recipe.
    """
    try:
        text = read_sealed(path, remedy=_CHANGED)
        _check_size(yaml.compose(text, yaml.SafeLoader))
        recipe = yaml.safe_load(text)
    except UserError:
        raise
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path} is damaged ({reason}): put it back from a copy") from None
    if not isinstance(recipe, dict):
        raise UserError(f"{path} is damaged, it has no fields: put it back from a copy")
    for name in ("data", "validation", "test"):
        if not isinstance(recipe.get(name), dict | None):
            raise UserError(f"{path} is damaged, {name} has no fields: put it back from a copy")
    return recipe


AS_PRESET = "preset"


def overrides_of(*configs: type, preset: str | None = None, skip: Sequence[str] = ()) -> Any:
    """A dataclass of the fields of model configurations, "preset": as the preset has it. With a preset's name, that is
    a field too, and so is what a model can start from in its place. `overridden` gives those that are given.

    It gives typed, documented options for the model without listing its fields a second time.
    """
    fields = {f.name: f for config in configs for f in dataclasses.fields(config) if f.name not in skip}
    # Each class documents its own fields; what a subclass says comes last and counts.
    classes = [c for config in configs for c in reversed(config.__mro__) if dataclasses.is_dataclass(c)]
    described, lines = _described(classes), []
    for name in fields:
        choices = f"One of {', '.join(CHOICES[name])}." if name in CHOICES else ""
        lines.append(f"    {name}: {described.get(name, '')} {choices}".rstrip())
    optional: list[Any] = [(f.name, f.type | Literal["preset"], AS_PRESET) for f in fields.values()]
    if preset is not None:
        optional[:0] = [("preset", str, preset), ("init_from", str | None, None)]
        lines[:0] = [
            "    preset: Name of an architecture in the zoo.",
            "    init_from: Go on from this model, with its tokenizer: a run trained here or imported, a folder of "
            "Hugging Face's, or a name on its hub. Beside it only dropouts can be given (of a decoder-only model also "
            "max_seq_len), and nothing that makes a tokenizer.",
        ]
    made = dataclasses.make_dataclass("ModelOverrides", optional, kw_only=True)
    made.__doc__ = "Model.\n\nArgs:\n" + "\n".join(lines)
    return made


def _described(classes: Sequence[type]) -> dict[str, str]:
    """What dataclasses say of their fields; nothing on a machine that has no command line for it."""
    try:
        import docstring_parser
    except ImportError:
        return {}
    parameters = [p for c in classes for p in docstring_parser.parse_from_object(c).params]
    return {p.arg_name: " ".join((p.description or "").split()) for p in parameters}


def overridden(overrides: Any) -> dict[str, Any]:
    """The fields of a configuration that are given; None is a value like others."""
    fields = dataclasses.asdict(overrides)
    return {n: v for n, v in fields.items() if n not in ("preset", "init_from") and v != AS_PRESET}
