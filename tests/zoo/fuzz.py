"""Configurations of a family drawn at random: what transformers builds and writes, we read, and compute the same.

`python -m tests.zoo.fuzz FAMILY [--n 50] [--seed 0]` draws all fields of the family's configuration in transformers
that change what a model computes, in tiny sizes, and compares logits, with rows padded left and right, and a cached
greedy step. It ends with status 1 when one differs, when more than one in twenty is refused, or when a refusal names
none of the fields that the family says it has limits for. What transformers cannot build is drawn again.
"""

import argparse
import json
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
)

from tests.zoo.drawing import Fields, draw
from tests.zoo.huggingface.models import (
    WITHOUT_POSITIONS,
    imported,
    padded,
    places,
    randomize,
    text_logits,
    translation_logits,
)
from tests.zoo.huggingface.test_encoders import masked_logits
from transformer_zoo.errors import UserError
from transformer_zoo.models import AnyModel, DecoderOnly, EncoderDecoder, EncoderOnly
from transformer_zoo.zoo.families import FAMILIES

TOLERANCE = 1e-4
HEADS = {
    "words": AutoModelForMaskedLM, "texts": AutoModelForSequenceClassification,
    "tokens": AutoModelForTokenClassification,
}  # fmt: skip


class Outcome(NamedTuple):
    """The outcome of one configuration."""

    kind: Literal["equal", "refused", "differs", "impossible"]
    text: str


def their_model(kind: str, fields: Fields) -> PreTrainedModel:
    """With random weights. Whatever they raise: there is no such model."""
    own = {name: value for name, value in fields.items() if name != "head"}
    config = AutoConfig.for_model(kind, **own, attn_implementation="eager")
    writer = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    head = HEADS[fields["head"]] if "head" in fields else writer
    model: PreTrainedModel = head.from_config(config)
    randomize(model)
    model.eval()
    return model


@torch.no_grad()
def cached_step(model: DecoderOnly | EncoderDecoder, theirs: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Logits after the most likely next token: ours with a cache, theirs without, (3, V) each."""
    if isinstance(model, EncoderDecoder):
        source, mask = padded(3, 11, pad=model.config.pad_id)
        target = padded(3, 4, pad=model.config.pad_id, avoid=(model.config.bos_id,))[0][2:].expand(3, -1)
        cache = model.new_cache(model.encode(source, mask.bool()), 5)
        after = model.decode(target, source_mask=mask.bool(), cache=cache)[:, -1:].argmax(-1)  # (3, 1)
        got = model.decode(after, source_mask=mask.bool(), cache=cache)
        both = torch.cat([target, after], 1)
        wanted = theirs(
            input_ids=source, attention_mask=mask, decoder_input_ids=both, use_cache=False,
            decoder_attention_mask=torch.ones_like(both),
        ).logits  # fmt: skip
    else:
        ids, mask = padded(3, 9, pad=1)
        mask[1], ids[1] = 1, ids[2]
        kept = model.new_cache(3, 10)
        after = model(ids, mask.bool(), cache=kept)[:, -1:].argmax(-1)  # (3, 1)
        both, seen = torch.cat([ids, after], 1), torch.nn.functional.pad(mask, (0, 1), value=1)
        got = model(after, seen.bool(), cache=kept)
        given = {} if theirs.config.model_type in WITHOUT_POSITIONS else {"position_ids": places(seen)}
        wanted = theirs(both, attention_mask=seen, **given).logits
    return got[:, -1], wanted[:, -1]


def compare(kind: str, theirs: PreTrainedModel, folder: Path) -> Outcome:
    """Their model through its files."""
    try:
        ours = imported(theirs, folder)
    except UserError as refusal:
        named = [name for name in FAMILIES[kind].limits if re.search(rf"\b{name}\b", str(refusal))]
        return Outcome("refused", f"{', '.join(named)}: {refusal}") if named else Outcome("differs", str(refusal))
    got, wanted = logits_of_both(ours, theirs)
    gap = float((got - wanted).abs().max())
    return Outcome("equal" if gap < max(TOLERANCE, 10 * grown_rounding(ours, theirs)) else "differs", f"{gap:.1e}")


@torch.no_grad()
def logits_of_both(ours: AnyModel, theirs: PreTrainedModel) -> tuple[Tensor, Tensor]:
    """Ours and theirs, of rows padded left and right and of a cached step, always the same: (N, V) each."""
    torch.manual_seed(0)
    if isinstance(ours, EncoderOnly):
        return masked_logits(ours, theirs)
    logits = translation_logits(ours, theirs) if isinstance(ours, EncoderDecoder) else text_logits(ours, theirs)
    got, wanted = zip(logits, cached_step(ours, theirs), strict=True)
    return torch.cat(got), torch.cat(wanted)


@torch.no_grad()
def grown_rounding(ours: AnyModel, theirs: PreTrainedModel) -> float:
    """How far logits move where each weight moves by about its last bit: in some random models, far."""
    before, _ = logits_of_both(ours, theirs)
    for weight in ours.parameters():
        weight *= 1 + 1e-7 * torch.randn_like(weight)
    after, _ = logits_of_both(ours, theirs)
    return float((after - before).abs().max())


def outcomes(kind: str, n: int, seed: int) -> Iterator[Outcome]:
    """The outcomes of so many configurations that transformers can build, and of those between that it cannot."""
    made = 0
    for i in range(20 * n):
        rng = Random(f"{kind} {seed} {i}")
        torch.manual_seed(i)
        fields = draw(kind, rng)
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                theirs = their_model(kind, fields)
                assert theirs(**_example(theirs)).logits.isfinite().all(), "logits that are no numbers"
            except Exception as error:  # whatever it is, they have no such model
                yield Outcome("impossible", f"{type(error).__name__}: {error}")
                continue
            outcome = compare(kind, theirs, Path(folder))
        made += 1
        yield outcome if outcome.kind == "equal" else Outcome(outcome.kind, f"{outcome.text} {json.dumps(fields)}")
        if made == n:
            return
    raise RuntimeError(f"{kind}: transformers builds only {made} of {20 * n} configurations")


def _example(theirs: PreTrainedModel) -> dict[str, Tensor]:
    ids = torch.tensor([[12, 13, 14]])
    return {"input_ids": ids, **({"decoder_input_ids": ids} if theirs.config.is_encoder_decoder else {})}


def fuzz(kind: str, n: int, seed: int) -> bool:
    """Prints each outcome; whether all is well."""
    counts = {"equal": 0, "refused": 0, "differs": 0, "impossible": 0}
    for i, (outcome, text) in enumerate(outcomes(kind, n, seed)):
        counts[outcome] += 1
        print(f"{kind} {i}: {outcome} {text}", flush=True)
    print(f"{kind}: {', '.join(f'{count} {name}' for name, count in counts.items())}", flush=True)
    return counts["differs"] == 0 and 20 * counts["refused"] <= n


def main(arguments: list[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.zoo.fuzz", description=__doc__)
    parser.add_argument("family", choices=FAMILIES)
    parser.add_argument("--n", type=int, default=50, help="configurations")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(arguments)
    return 0 if fuzz(given.family, given.n, given.seed) else 1


if __name__ == "__main__":
    sys.exit(main())
