"""The kinds of models that recipes train."""

from typing import Any

from transformer_zoo.training.tasks.kind import Kind
from transformer_zoo.training.tasks.language import LANGUAGE
from transformer_zoo.training.tasks.masked import MASKED
from transformer_zoo.training.tasks.translation import TRANSLATION

KINDS: tuple[Kind[Any, Any, Any, Any], ...] = (TRANSLATION, MASKED, LANGUAGE)
"""All kinds of models that recipes train."""


def kind_of_recipe(fields: dict[str, Any]) -> Kind[Any, Any, Any, Any]:
    """The kind whose recipe has these fields in the form of YAML: the first kind with a mark among them."""
    data = fields.get("data")
    given = data.keys() if isinstance(data, dict) else set()
    return next(kind for kind in KINDS if not kind.marks or kind.marks & given)
