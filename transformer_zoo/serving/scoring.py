"""How likely a model finds given translations or continuations."""

import math
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from transformer_zoo.inference import TargetScore, perplexity
from transformer_zoo.runs import Run, TextRun
from transformer_zoo.serving.bodies import Fields, Many, Name, body
from transformer_zoo.serving.here import Here
from transformer_zoo.serving.jobs import results, while_there

router = APIRouter()
Texts = str | Annotated[Many[str], Field(max_length=2048)]


class ScoreFields(Fields):
    """Sources or prompts, and what follows each; for a decoder-only model a prompt may be empty."""

    source: Texts
    target: Texts
    model: Name | None = None


@router.post("/score")
async def score(request: Request, here: Here, asked: Annotated[ScoreFields, body(ScoreFields)]) -> Response:
    """Log-probabilities in the form of the command's --json: in nats, null if they are not finite."""
    _, engine, _ = here.catalogue.choose(asked.model, Run, TextRun)
    sources, targets = ([one] if isinstance(one, str) else one for one in (asked.source, asked.target))
    [scores] = await while_there(request, results([engine.score(sources, targets)]))
    lines = [{**_numbers([one]), "token_log_probs": [*map(_finite, one.token_log_probs)]} for one in scores]
    return JSONResponse({**_numbers(scores), "tokens": sum(len(one.token_log_probs) for one in scores), "lines": lines})


def _numbers(scores: list[TargetScore]) -> dict[str, Any]:
    log_prob = math.fsum(one.log_prob for one in scores)
    return {"log_prob": _finite(log_prob), "perplexity": _finite(perplexity(scores))}


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None
