"""docs/zoo.md: each family with its sizes, what it refuses, and how far its logits are from those of transformers.

`python -m tests.zoo.page` writes it. The differences are measured on the tiny models of the tests, which differ from
the defaults in every field, and kept in differences.json; again where a family is new, or with `--measure`.
"""

import argparse
import json
import tempfile
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from recipes.benchmarks.speed import machine
from tests.zoo.huggingface import models, test_encoders
from transformer_zoo.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from transformer_zoo.models import EncoderDecoder
from transformer_zoo.zoo.counts import recorded_counts
from transformer_zoo.zoo.families import FAMILIES
from transformer_zoo.zoo.huggingface.common import REFUSED
from transformer_zoo.zoo.huggingface.family import Family
from transformer_zoo.zoo.huggingface.parts import ENCODER_DECODER, TEXT_ONLY

PAGE = Path(__file__).parents[2] / "docs" / "zoo.md"
DIFFERENCES = Path(__file__).with_name("differences.json")
CASES = (*models.TEXT_CASES, *models.TRANSLATION_CASES, *test_encoders.CASES)

_HEAD = """# The zoo

These are the families of the hub, by the `model_type` in their config.json, whose weights can be imported and exported
with the same logits. `transformer-zoo list --families` prints them too. `python -m tests.zoo.page` writes this page,
and a test checks that it is current.

- `tz.create_model` and `transformer-zoo describe` know the sizes by their names; each stands with its number of
  parameters. Any other size of a family can be imported too.
- Every unknown field of config.json is refused by its name. A field that is listed here is refused for values that no
  model here can have, such as an activation that does not exist here. In all families these are: {common}.
- The difference is the largest one between the logits of transformers and ours. It is measured on tiny models in
  float32 with random weights, whose fields differ from the defaults, with rows padded left and right. Encoders are
  measured with each possible head: for words, for labels of texts, for labels of tokens. Measured by
  `python -m tests.zoo.page --measure`: {measured}. The slow tests measure it again.
"""
_KINDS = {
    EncoderDecoderConfig: "Encoder-decoders", DecoderConfig: "Decoders", EncoderConfig: "Encoders",
}  # fmt: skip


def render(held: dict[str, Any]) -> str:
    """The page, of what differences.json has."""
    differences: dict[str, float] = held["differences"]
    common = [*REFUSED, *sorted(TEXT_ONLY.keys() | ENCODER_DECODER.keys())]
    parts = [_HEAD.format(common=_words(common), measured=held["measured"])]
    for config, title in _KINDS.items():
        rows = [_row(kind, family, differences[kind]) for kind, family in FAMILIES.items() if family.config is config]
        parts += [f"## {title}\n", "| model_type | sizes | refused | difference |\n|---|---|---|---|", *rows, ""]
    return "\n".join(parts)


def _row(kind: str, family: Family, difference: float) -> str:
    counts = recorded_counts()
    sizes = "; ".join(f"`{name}` {counts[name]:,}" for name in family.sizes)
    limits = family.limits - REFUSED.keys() - TEXT_ONLY.keys() - ENCODER_DECODER.keys()
    refused = "; ".join(_limit(family, name) for name in sorted(limits))
    return f"| `{kind}` | {sizes} | {refused} | {difference:.1e} |"


def _limit(family: Family, name: str) -> str:
    """A field, and the values that it may have where they are few."""
    allowed = family.required.get(name)
    return f"`{name}`" + ("" if allowed is None else f" except {' or '.join(map(json.dumps, allowed))}")


def _words(names: list[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


@torch.no_grad()
def measured(case: str) -> tuple[str, float]:
    """The model_type of a case of the tests, and the largest difference of its logits."""
    torch.manual_seed(0)
    is_encoder, found = case in test_encoders.CASES, list[float]()
    logits: Any = test_encoders.masked_logits if is_encoder else _logits
    for theirs in map(partial(test_encoders.make, case), test_encoders.HEADS) if is_encoder else [models.make(case)]:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            got, wanted = logits(models.imported(theirs, Path(folder)), theirs)  # type: ignore[arg-type]
        found.append(float((got - wanted).abs().max()))
    return theirs.config.model_type, max(found)


def _logits(ours: Any, theirs: Any) -> tuple[torch.Tensor, torch.Tensor]:
    return (models.translation_logits if isinstance(ours, EncoderDecoder) else models.text_logits)(ours, theirs)


def largest(cases: Iterator[str]) -> dict[str, float]:
    """The largest difference of each family."""
    found: dict[str, float] = {}
    for kind, difference in map(measured, cases):
        found[kind] = max(difference, found.get(kind, 0.0))
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.page", description=__doc__)
    parser.add_argument("--measure", action="store_true", help="measure again, also where no family is new")
    held: dict[str, Any] = json.loads(DIFFERENCES.read_text("utf-8")) if DIFFERENCES.is_file() else {}
    if parser.parse_args().measure or held.get("differences", {}).keys() != FAMILIES.keys():
        found, about = largest(iter(CASES)), machine(torch.device("cpu"))
        measured = ", ".join(f"{name} {about[name]}" for name in ("commit", "cpu", "threads", "packages"))
        held = {"measured": measured, "differences": {kind: float(f"{found[kind]:.1e}") for kind in FAMILIES}}
        DIFFERENCES.write_text(json.dumps(held, indent=1) + "\n")
    PAGE.write_text(render(held), "utf-8")


if __name__ == "__main__":
    main()
