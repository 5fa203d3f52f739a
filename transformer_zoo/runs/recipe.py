"""config.yaml of a run: its recipe with the values of all fields, which can be run again."""

from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from transformer_zoo.checksums import CHANGED, MARK, read_sealed, write_sealed
from transformer_zoo.errors import UserError, first_line

_MOST_VALUES = 100_000  # number of values in a run's recipe, which has some hundred


def save_recipe(path: Path, plain: dict[str, Any]) -> None:
    """Write the resolved recipe as YAML that can be run again, with its checksum."""
    head = f"# {MARK} is the checksum of this file: remove this line if you change another\n"
    text = head + yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
    write_sealed(path, lambda part: part.write_bytes(text.encode()))


def load_recipe(path: Path) -> dict[str, Any]:
    """Read what `save_recipe` wrote.

    Raises:
        UserError: the file is missing, damaged, or not a recipe.
    """
    try:
        text = read_sealed(path, remedy=CHANGED)
        _check_size(yaml.compose(text, yaml.SafeLoader))
        recipe = yaml.safe_load(text)
    except UserError:
        raise
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise UserError(f"{path} is damaged ({first_line(error)}): put it back from a copy") from None
    if not isinstance(recipe, dict):
        raise UserError(f"{path} is damaged, it has no fields: put it back from a copy")
    for name in ("data", "validation", "test"):
        if not isinstance(recipe.get(name), dict | None):
            raise UserError(f"{path} is damaged, {name} has no fields: put it back from a copy")
    return recipe


def _check_size(node: yaml.Node | None) -> None:
    """Refuse a small file in which aliases of aliases stand for more values than memory holds."""
    sizes: dict[yaml.Node | None, int] = {}

    def size(of: yaml.Node | None) -> int:
        if of not in sizes and isinstance(of, yaml.CollectionNode):
            children = chain.from_iterable(of.value) if isinstance(of, yaml.MappingNode) else of.value
            sizes[of] = 1 + sum(map(size, children))
        return sizes.get(of, 1)

    if size(node) > _MOST_VALUES:
        raise yaml.YAMLError(f"its aliases stand for more than {_MOST_VALUES:,} values")
