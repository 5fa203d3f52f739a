"""From a YAML file and the command line to a typed recipe."""

import dataclasses
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import jsonargparse
import yaml

from transformer_zoo.checksums import CHANGED, verify
from transformer_zoo.commandline.functions import examples_of
from transformer_zoo.commandline.parser import Parser, refuse
from transformer_zoo.errors import UsageError, UserError
from transformer_zoo.files import read_bytes
from transformer_zoo.words import unfit

T = TypeVar("T")

_LARGEST_RECIPE = 1 << 20  # bytes; nobody writes so many by hand


def parse_recipe(recipe: type[T], arguments: Sequence[str]) -> T:
    """The dataclass `recipe` from `RUN.yaml [--section.field value ...]`.

    A misspelt field, a wrong type or a missing file ends the program with one line and status 2. --help explains every
    field.
    """
    # --help shows what stands below each field of a dataclass; and no recipe names code that would be imported.
    jsonargparse.set_parsing_settings(
        docstring_parse_attribute_docstrings=True,
        import_path_denylist=["*"],
        import_path_allowlist=["transformer_zoo.data", "transformer_zoo.tokenizers"],
    )
    about = (recipe.__doc__ or "").partition("\n")[0]
    parser = Parser(prog="transformer-zoo train RECIPE.yaml", description=about, allow_abbrev=False)
    parser.dashes, parser.examples = False, examples_of(recipe)
    parser.add_argument("--config", action="config", help="The YAML file; `RECIPE.yaml` alone means the same.")
    parser.add_class_arguments(recipe)
    words = list(arguments)
    if words and not words[0].startswith("-"):
        words = ["--config", *words]
    parser.words = words
    files = [value for option, value in pairwise(words) if option == "--config"]
    for file in [*files, *(word.partition("=")[2] for word in words if word.startswith("--config="))]:
        try:
            fields = read_yaml(file)
        except UsageError as error:
            refuse(str(error))
        if wrong := unfit(recipe, fields, ""):
            refuse(f"{file}: {wrong}")
    try:
        given = parser.parse_args(words)
        plain = {name: value for name, value in given.as_dict().items() if name != "config"}
        if wrong := unfit(recipe, plain, ""):
            refuse(wrong)
        made = parser.instantiate(given) if hasattr(parser, "instantiate") else parser.instantiate_classes(given)
    except Exception as error:  # the parser's errors have no common base
        refuse(parser.explain(str(error)))
    return recipe(**{field.name: getattr(made, field.name) for field in dataclasses.fields(recipe)})  # type: ignore[arg-type]


def read_yaml(file: str) -> dict[str, Any]:
    """The fields in a recipe's file, before they become values.

    Raises:
        UsageError: the file cannot be read, or is not a recipe.
    """
    try:
        content = read_bytes(Path(file))
        if len(content) > _LARGEST_RECIPE:
            raise UsageError(f"{file}: {len(content):,} bytes are not a recipe; give the path of one")
        text = content.decode("utf-8")
        repeated = _repeated_key(yaml.compose(text, yaml.SafeLoader))
        fields = yaml.safe_load(text)
        verify(Path(file), remedy=CHANGED, warn=False)
    except UnicodeDecodeError:
        raise UsageError(f"{file}: not UTF-8; convert it to UTF-8") from None
    except UserError as error:
        raise UsageError(str(error)) from None
    except OSError as error:
        said = (
            f"{file}: {error.strerror}; give the path of a recipe, such as those that `transformer-zoo recipes` lists"
        )
        raise UsageError(said) from None
    except RecursionError:
        raise UsageError(f"{file}: fields are nested too deeply, or contain themselves") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{file}: not YAML: {error}") from None
    except (ValueError, TypeError) as error:  # a date that does not exist, a list used as a name
        raise UsageError(f"{file}: {error}") from None
    if repeated is not None:
        raise UsageError(f"{file}:{repeated}")
    if not isinstance(fields, dict):
        wrong = "empty" if fields is None else "no fields"
        raise UsageError(f"{file}: {wrong}; a recipe has lines such as `run_dir: runs/first`")
    return fields


def _repeated_key(node: yaml.Node | None) -> str | None:
    """Line and name of a field that is given twice; YAML would silently take the last one.

    It also finds a field whose name is not text, and fields that YAML would copy into another one by their name.
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
