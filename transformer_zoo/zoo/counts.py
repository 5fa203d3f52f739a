"""How many parameters the zoo's models have. This is a record, because counting needs torch, which takes seconds to
load.

`python -m transformer_zoo.zoo.counts` writes it.
"""

import json
from pathlib import Path

from transformer_zoo.zoo import get_config, list_models

_RECORD = Path(__file__).with_name("counts.json")


def recorded_counts() -> dict[str, int]:
    """Number of parameters by name; a model that the record lacks is counted."""
    held: dict[str, int] = json.loads(_RECORD.read_text())
    return {name: held.get(name) or count(name) for name in list_models()}


def count(name: str) -> int:
    """Number of parameters of a model of the zoo."""
    from transformer_zoo.models.empty import n_parameters

    return n_parameters(get_config(name))


if __name__ == "__main__":
    _RECORD.write_text(json.dumps({name: count(name) for name in list_models()}, indent=2) + "\n")
