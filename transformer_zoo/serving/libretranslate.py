"""LibreTranslate's routes: translations and languages."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from transformer_zoo.runs.translating import as_tested
from transformer_zoo.serving.bodies import Fields, Many, Name, body
from transformer_zoo.serving.catalogue import Chosen
from transformer_zoo.serving.here import Here, Serving
from transformer_zoo.serving.jobs import answers, while_there
from transformer_zoo.serving.keys import check_key, keyed
from transformer_zoo.serving.refusals import Refusal

router = APIRouter()
Code = Annotated[str, Field(max_length=40)]


class TranslateFields(Fields):
    """What is translated, and between which languages. `model` is a field of this server alone."""

    q: str | Many[str]
    source: Code
    target: Code
    format: Literal["text"] = "text"
    alternatives: Annotated[int, Field(ge=0, le=9)] = 0
    api_key: str | None = None
    model: Name | None = None
    takes_forms: ClassVar[bool] = True


class DetectFields(Fields):
    """A text whose language is to be detected."""

    q: str | Many[str]
    api_key: str | None = None
    takes_forms: ClassVar[bool] = True


@router.get("/languages", dependencies=[Depends(keyed)])
async def languages(here: Here) -> Response:
    """The source languages, and the languages that each is translated into."""
    return JSONResponse(here.catalogue.languages)


@router.post("/detect")
async def detect(request: Request, asked: Annotated[DetectFields, body(DetectFields)]) -> Response:
    """Refuse: nothing here detects languages."""
    check_key(request, asked.api_key)
    raise Refusal(501, "no model here detects languages: name the source language")


@router.post("/translate")
async def translate(request: Request, here: Here, asked: Annotated[TranslateFields, body(TranslateFields)]) -> Response:
    """Translations of a text, or of several."""
    check_key(request, asked.api_key)
    chosen, texts = here.catalogue.translator(asked.source, asked.target, asked.model), asked.q
    found = await while_there(request, _translated(here, chosen, [texts] if isinstance(texts, str) else texts, asked))
    best = [one[0] for one in found]
    answer: dict[str, Any] = {"translatedText": best[0] if isinstance(texts, str) else best}
    if asked.alternatives:
        others = [one[1:] for one in found]
        answer["alternatives"] = others[0] if isinstance(texts, str) else others
    return JSONResponse(answer)


async def _translated(here: Serving, to: Chosen, texts: Sequence[str], asked: TranslateFields) -> list[list[str]]:
    """The translations of each text, the best first."""
    if len(texts) > here.settings.max_answers:
        raise Refusal(422, f"q: these are more than {here.settings.max_answers} texts: send fewer at once", field="q")
    how = as_tested(to.run)
    begin = partial(
        to.engine.translate,
        how=replace(how.search, n_best=asked.alternatives + 1),
        source_lang=to.source,
        target_lang=to.target,
        never=how.never,
        max_source_tokens=how.max_source_tokens,
    )
    begun = (begin(text) for text in texts)
    with here.asked(to.name, begun) as requests:
        return [[one.text for one in ranked] for [ranked] in await answers(requests)]
