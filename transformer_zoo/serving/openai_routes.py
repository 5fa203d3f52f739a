"""OpenAI's routes: models, completions, conversations and embeddings."""

import asyncio
import base64
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from transformer_zoo.errors import UserError
from transformer_zoo.inference import Chat
from transformer_zoo.inference.chat import render_chat
from transformer_zoo.inference.codec import codec_of
from transformer_zoo.runs import EncoderRun, TextRun
from transformer_zoo.serving import requests
from transformer_zoo.serving.bodies import body
from transformer_zoo.serving.catalogue import Served
from transformer_zoo.serving.here import Here, Serving
from transformer_zoo.serving.jobs import answers, events, results, while_there
from transformer_zoo.serving.openai_fields import ChatFields, CompletionFields, EmbeddingFields, WritingFields
from transformer_zoo.serving.refusals import Refusal, as_refusal
from transformer_zoo.serving.streams import server_sent, streamed
from transformer_zoo.serving.writing import Written

router = APIRouter()
_USUAL_TOKENS = 16  # default length of a completion, as at OpenAI
_FINISHES = {"eos": "stop", "stop": "stop", "length": "length"}


@router.get("/v1/models")
async def models(here: Here) -> Response:
    """All models."""
    return JSONResponse({"object": "list", "data": [_model(here, name) for name in here.catalogue.engines]})


@router.get("/v1/models/{name:path}")
async def model(here: Here, name: str) -> Response:
    """One model."""
    here.catalogue.check_name(name)
    return JSONResponse(_model(here, name))


def _model(here: Serving, name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": here.started, "owned_by": "transformer_zoo"}


@dataclass(frozen=True)
class Form:
    """How an answer is written: as a whole, and piece by piece."""

    prefix: str
    whole: str
    piece: str
    message: Callable[[str], dict[str, Any]]
    delta: Callable[[str], dict[str, Any]]
    opening: dict[str, Any] | None = None


def _as_text(text: str) -> dict[str, Any]:
    return {"text": text}


COMPLETION = Form("cmpl", "text_completion", "text_completion", _as_text, _as_text)
CHAT = Form(
    "chatcmpl",
    "chat.completion",
    "chat.completion.chunk",
    lambda text: {"message": {"role": "assistant", "content": text, "refusal": None}},
    lambda text: {"delta": {"content": text}},
    {"delta": {"role": "assistant", "content": ""}},
)


@router.post("/v1/completions")
async def completions(
    request: Request, here: Here, asked: Annotated[CompletionFields, body(CompletionFields)]
) -> Response:
    """Continuations of prompts."""
    served, most = here.catalogue.choose(asked.model, TextRun), asked.max_tokens or _USUAL_TOKENS
    prompts = await while_there(request, asyncio.to_thread(_prompts, served.run, asked))
    return await Answer(here, served, prompts, asked, COMPLETION, most, asked.max_tokens is not None).response(request)


def _prompts(run: TextRun, asked: CompletionFields) -> list[list[int]]:
    """Each prompt as ids."""
    codec = codec_of(run.model, run.tokenizer)
    return [codec.encode([one])[0] if isinstance(one, str) else one for one in asked.prompts]


@router.post("/v1/chat/completions")
async def chat_completions(request: Request, here: Here, asked: Annotated[ChatFields, body(ChatFields)]) -> Response:
    """The answer in a conversation."""
    served, given = here.catalogue.choose(asked.model, TextRun), asked.max_completion_tokens or asked.max_tokens
    prompt = await while_there(request, asyncio.to_thread(_conversation, served.run, asked))
    most = given or here.settings.max_tokens
    return await Answer(here, served, [prompt], asked, CHAT, most, given is not None).response(request)


def _conversation(run: TextRun, asked: ChatFields) -> list[int]:
    """The conversation as ids, by the model's own template. Refusal: there is no template, or it refuses."""
    try:
        Chat(run.model, run.tokenizer)  # which says why this model cannot hold a conversation
        return run.tokenizer.encode(render_chat(run.tokenizer, [message.plain() for message in asked.messages]))
    except UserError as error:
        raise Refusal(400, str(error), field="messages") from None


@dataclass(frozen=True)
class Answer:
    """Answers to prompts, `n` to each.

    Args:
        prompts: Token ids of each prompt.
        most: Number of new tokens of each answer, at most.
        is_given: Whether the client asked for this number; otherwise an answer is shorter if the model's context is
            full.
    """

    here: Serving
    served: Served[TextRun]
    prompts: Sequence[list[int]]
    asked: WritingFields
    form: Form
    most: int
    is_given: bool
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        settings = self.here.settings
        if self.is_given and self.most > settings.max_tokens:
            reason = f"max_tokens is {self.most:,}: this server writes at most {settings.max_tokens:,} at once"
            raise Refusal(422, reason, field="max_tokens")
        if self.n * len(self.prompts) > settings.max_answers:
            reason = f"n: these are more than {settings.max_answers} answers: ask for fewer at once"
            raise Refusal(422, reason, field="n")

    @property
    def n(self) -> int:
        return self.asked.n or 1

    async def response(self, request: Request) -> Response:
        """The whole answer, or a stream."""
        if self.asked.stream:
            return await streamed(request, self._stream(), "text/event-stream")
        return JSONResponse(await while_there(request, self._whole()))

    def _begun(self) -> Iterator[requests.Request[Written]]:
        """The requests to the engine. Answer number i, from 0, is drawn with seed + i, as in the command."""
        sampling, seed = self.asked.sampling, self.asked.seed
        wanted = [prompt for prompt in self.prompts for _ in range(self.n)]
        for number, prompt in enumerate(wanted):
            room = max(1, self.served.engine.max_tokens + 1 - len(prompt))
            yield self.served.engine.write(
                prompt,
                sampling,
                max_new_tokens=self.most if self.is_given else min(self.most, room),
                stops=self.asked.stops,
                seed=None if seed is None else (seed + number) % 2**63,
            )

    async def _whole(self) -> dict[str, Any]:
        with self.here.asked(self.served.name, self._begun()) as asked:
            found = await answers(asked)
            usage = self._usage(asked)
        choices = [self._choice(i, self.form.message(one.text), one.end) for i, one in enumerate(found)]
        return {**self._head(self.form.whole), "choices": choices, "usage": usage}

    async def _stream(self) -> AsyncGenerator[str, None]:
        """The chunks of a stream. If something goes wrong after the first chunk, the error is the last one."""
        is_first = True
        try:
            async for chunk in self._chunks():
                is_first = False
                yield server_sent({**self._head(self.form.piece), **chunk})
        except Exception as error:
            if is_first:
                raise
            yield server_sent(as_refusal(error).as_json("/v1/"))
            return
        yield "data: [DONE]\n\n"

    async def _chunks(self) -> AsyncGenerator[dict[str, Any], None]:
        opened = set[int]()
        with self.here.asked(self.served.name, self._begun()) as asked:
            async for number, event in events(asked, self.here.settings.max_seconds):
                if self.form.opening and number not in opened:
                    yield {"choices": [self._choice(number, self.form.opening, None)]}
                opened.add(number)
                if event.text or event.end:
                    yield {"choices": [self._choice(number, self.form.delta(event.text), event.end)]}
            if self.asked.sends_usage:
                yield {"choices": [], "usage": self._usage(asked)}

    def _head(self, kind: str) -> dict[str, Any]:
        return {
            "id": f"{self.form.prefix}-{self.id}",
            "object": kind,
            "created": self.created,
            "model": self.served.name,
        }

    def _choice(self, number: int, said: dict[str, Any], end: str | None) -> dict[str, Any]:
        return {"index": number, **said, "logprobs": None, "finish_reason": end and _FINISHES[end]}

    def _usage(self, asked: Sequence[requests.Request[Written]]) -> dict[str, int]:
        """Numbers of tokens; a prompt counts once, whatever the number of its answers."""
        prompt = sum(map(len, self.prompts))
        completion = sum(one.usage.completion_tokens for one in asked)
        return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


@router.post("/v1/embeddings")
async def embeddings(
    request: Request, here: Here, asked: Annotated[EmbeddingFields, body(EmbeddingFields)]
) -> Response:
    """Vectors of texts."""
    name, engine, run = here.catalogue.choose(asked.model, EncoderRun)
    width = run.model.config.d_model
    if asked.dimensions not in (None, width):
        raise Refusal(400, f"dimensions: this model has {width}", field="dimensions")
    ids = await while_there(request, asyncio.to_thread(run.tokenizer.encode_batch, asked.texts))
    [vectors] = await while_there(request, results([engine.embed(asked.texts)]))
    rows = [vector.tolist() for vector in vectors]
    if asked.encoding_format == "base64":
        rows = [base64.b64encode(row.tobytes()).decode() for row in vectors.numpy().astype("<f4")]
    data = [{"object": "embedding", "index": i, "embedding": row} for i, row in enumerate(rows)]
    n = sum(map(len, ids))
    here.metrics.count_tokens(name, n, 0)
    usage = {"prompt_tokens": n, "total_tokens": n}
    return JSONResponse({"object": "list", "data": data, "model": name, "usage": usage})
