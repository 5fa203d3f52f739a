"""The routes that only the page uses: texts token by token, attention, words, positions."""

import json
from asyncio import wait_for, wrap_future
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial
from typing import Annotated, Any, TypeVar
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from torch import Tensor

from transformer_zoo.errors import UserError
from transformer_zoo.inference import Explained
from transformer_zoo.languages import english_name, short_code, with_script
from transformer_zoo.runs import (
    AttentionMaps,
    EncoderRun,
    PositionsTable,
    Run,
    TextRun,
    Translator,
    Writer,
    attention_maps,
    neighbours,
    positions_table,
)
from transformer_zoo.runs.translating import as_tested
from transformer_zoo.serving.bodies import body
from transformer_zoo.serving.catalogue import Served
from transformer_zoo.serving.engine import Engine
from transformer_zoo.serving.here import Here, Serving
from transformer_zoo.serving.jobs import events, held, too_slow, while_there
from transformer_zoo.serving.page.fields import (
    AttentionFields,
    ModelFields,
    NeighbourFields,
    TextFields,
    TranslationFields,
    WriteFields,
)
from transformer_zoo.serving.refusals import Refusal, as_refusal
from transformer_zoo.serving.streams import streamed

T = TypeVar("T")
_ALTERNATIVES = 6  # at each position of a translation
_NEXT = 10
_SHOWN_PIECES, _SHOWN_PLACES, _SHOWN_COLUMNS = 128, 64, 512  # of the data for a picture
_JSON_LINES = "application/x-ndjson"

router = APIRouter(prefix="/page")
_translators: WeakKeyDictionary[Engine, Translator] = WeakKeyDictionary()


@router.get("/models")
async def models(here: Here) -> Response:
    """The models, and what can be done with them."""
    return JSONResponse({"models": [_model(name, engine.run) for name, engine in here.catalogue.engines.items()]})


def _model(name: str, run: Run | TextRun | EncoderRun) -> dict[str, Any]:
    does = ["translate"] if isinstance(run, Run) else ["write"] if isinstance(run, TextRun) else []
    found: dict[str, Any] = {"name": name, "does": [*does, "look"]}
    if isinstance(run, Run):
        tokenizer = run.tokenizer
        found |= {
            "beam": as_tested(run).search.beam,
            "sources": [*map(_language, tokenizer.languages if tokenizer.takes_source else ())],
            "targets": [*map(_language, tokenizer.languages)],
            "source": run.source_language and _language(run.source_language),
            "target": run.target_language and _language(run.target_language),
        }
    return found


def _language(code: str) -> dict[str, str]:
    """A language in the model's spelling, in people's, and in browsers'."""
    known = with_script(code)
    return {"code": code, "name": english_name(*known), "tag": short_code(*known)}


@router.post("/translate")
async def translate(
    request: Request, here: Here, asked: Annotated[TranslationFields, body(TranslationFields)]
) -> Response:
    """A text part by part, as it is translated: the white space before each part, and its best translations."""
    served = here.catalogue.choose(asked.model, Run)
    return await _lines(request, _translated(here, served, asked))


async def _translated(here: Serving, served: Served[Run], asked: TranslationFields) -> AsyncIterator[dict[str, Any]]:
    engine = served.engine
    *parts, _ = await _called(here, engine, lambda: _translator(served).split(asked.text, **asked.languages))
    if len(parts) != 2 and (asked.prefix or not parts):
        raise UserError("give one line to translate" if parts else "the text is blank: there is nothing to translate")
    for before, part in zip(parts[::2], parts[1::2], strict=True):
        found = await _called(here, engine, partial(_explained, served, part, asked))
        yield {"before": before, "text": part, "source": found[0].source_pieces, "best": [*map(_shown, found)]}


def _translator(served: Served[Run]) -> Translator:
    """The run, ready to translate; called in the thread that computes."""
    if served.engine not in _translators:
        _translators[served.engine] = Translator(served.run)
    return _translators[served.engine]


def _explained(served: Served[Run], part: str, asked: TranslationFields) -> list[Explained]:
    how = {"beam": max(asked.beam, asked.n_best), "prefix": asked.prefix, **asked.languages}
    return _translator(served).explain(part, k=_ALTERNATIVES, n_best=asked.n_best, **how)


def _shown(found: Explained) -> dict[str, Any]:
    assert found.alignment is not None  # of a translation
    pieces = [{**vars(piece), "alternatives": [one._asdict() for one in piece.alternatives]} for piece in found.pieces]
    return {"pieces": pieces, "alignment": _rounded(found.alignment)}


@router.post("/write")
async def write(request: Request, here: Here, asked: Annotated[WriteFields, body(WriteFields)]) -> Response:
    """The continuation of a text, as it is written. If the text is not given as ids, its pieces come first."""
    served = here.catalogue.choose(asked.model, TextRun)
    if asked.max_new_tokens > here.settings.max_tokens:
        raise Refusal(422, f"max_new_tokens: this server writes at most {here.settings.max_tokens:,} at once")
    return await _lines(request, _written(here, served, asked))


async def _written(here: Serving, served: Served[TextRun], asked: WriteFields) -> AsyncIterator[dict[str, Any]]:
    engine, sampling, ids, pieces = served.engine, asked.sampling, asked.ids, None
    if not ids:
        given = await _called(here, engine, lambda: Writer(served.run).explain(asked.text, k=0))
        ids, pieces = given.ids, [{"id": piece.id, "text": piece.text} for piece in given.pieces]
    prompt = [*served.run.tokenizer.start_ids, *ids]
    n = min(asked.max_new_tokens, max(1, engine.max_tokens + 1 - len(prompt)))
    with here.asked(served.name, [engine.write(prompt, sampling, max_new_tokens=n, seed=asked.seed)]) as [request]:
        if pieces is not None:
            yield {"given": pieces}
        async for _, event in events([request], here.settings.max_seconds):
            yield event._asdict()


@router.post("/probabilities")
async def probabilities(request: Request, here: Here, asked: Annotated[TextFields, body(TextFields)]) -> Response:
    """How likely each token of a text is after those before it; null for a first token with nothing before it."""
    writer = Writer(here.catalogue.choose(asked.model, TextRun).run)
    found = await _answered(request, here, asked.model, lambda: writer.explain(asked.ids, k=0))
    return JSONResponse({"probabilities": [piece.probability for piece in found.pieces]})


@router.post("/next")
async def next_tokens(request: Request, here: Here, asked: Annotated[TextFields, body(TextFields)]) -> Response:
    """The most likely tokens after a text."""
    writer = Writer(here.catalogue.choose(asked.model, TextRun).run)
    found = await _answered(request, here, asked.model, lambda: writer.next_tokens(asked.ids or "", k=_NEXT))
    return JSONResponse({"tokens": [one._asdict() for one in found]})


@router.post("/attention")
async def attention(request: Request, here: Here, asked: Annotated[AttentionFields, body(AttentionFields)]) -> Response:
    """All heads of a layer, and the names of the other layers."""
    run = here.catalogue.choose(asked.model, Run, TextRun, EncoderRun).run
    work = partial(attention_maps, run, asked.text, asked.target, max_pieces=_SHOWN_PIECES)
    maps = await _answered(request, here, asked.model, work)
    return JSONResponse(_heads(maps, asked))


def _heads(maps: AttentionMaps, asked: AttentionFields) -> dict[str, Any]:
    """The heads of the layer that is asked for, otherwise of the last layer."""
    kinds = {kind: len(layers) for kind, layers in maps.weights.items()}
    kind = asked.kind or ("cross" if "cross" in kinds else next(iter(kinds)))
    if kind not in kinds:
        raise UserError(f"kind: this model has no {kind} attention, but {', '.join(kinds)}")
    layer = kinds[kind] - 1 if asked.layer is None else min(asked.layer, kinds[kind] - 1)
    rows, columns = maps.pieces(kind)
    heads = [_rounded(head) for head in maps.weights[kind][layer]]
    return {"kinds": kinds, "kind": kind, "layer": layer, "rows": rows, "columns": columns, "heads": heads}


@router.post("/neighbours")
async def near(request: Request, here: Here, asked: Annotated[NeighbourFields, body(NeighbourFields)]) -> Response:
    """The words whose embeddings are nearest."""
    run = here.catalogue.choose(asked.model, Run, TextRun, EncoderRun).run
    work = partial(neighbours, run, asked.word, plus=asked.plus, minus=asked.minus)
    return JSONResponse({"neighbours": await _answered(request, here, asked.model, work)})


@router.post("/positions")
async def positions(request: Request, here: Here, asked: Annotated[ModelFields, body(ModelFields)]) -> Response:
    """How the model distinguishes positions, as tables."""
    run = here.catalogue.choose(asked.model, Run, TextRun, EncoderRun).run
    tables = await _answered(request, here, asked.model, lambda: positions_table(run.model, n=_SHOWN_PLACES))
    return JSONResponse({"tables": [_table(table) for table in tables]})


def _table(table: PositionsTable) -> dict[str, Any]:
    """The first of its columns, and how many there are."""
    return {**vars(table), "width": table.values.size(1), "values": _rounded(table.values[:, :_SHOWN_COLUMNS])}


def _rounded(values: Tensor) -> list[list[float]]:
    """A matrix in the form for a picture."""
    return [[round(x, 4) for x in row] for row in values.tolist()]


async def _called(here: Serving, engine: Engine, function: Callable[[], T]) -> T:
    """The result of a function, called by the thread that computes. Refusal: it takes too long."""
    seconds = here.settings.max_seconds
    with held([engine.call(function)]) as [request]:
        try:
            return await wait_for(wrap_future(request), seconds)
        except TimeoutError:
            raise too_slow(seconds) from None


async def _answered(request: Request, here: Serving, model: str, function: Callable[[], T]) -> T:
    """The same, for a client who may go away."""
    return await while_there(request, _called(here, here.catalogue.engines[model], function))


async def _lines(request: Request, parts: AsyncIterator[dict[str, Any]]) -> Response:
    """A line of JSON for each item. If something goes wrong after the first, the error is the last line."""

    async def lines() -> AsyncGenerator[str, None]:
        is_first = True
        try:
            async for part in parts:
                is_first = False
                yield json.dumps(part) + "\n"
        except Exception as error:
            if is_first:
                raise
            yield json.dumps(as_refusal(error).as_json(request.url.path)) + "\n"

    return await streamed(request, lines(), _JSON_LINES)
