"""Bodies of requests as fields with types: they are read within limits of size and time, and refused in one line."""

import asyncio
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Self, TypeVar
from urllib.parse import parse_qs

from fastapi import Depends, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from transformer_zoo.serving.refusals import Refusal
from transformer_zoo.words import did_you_mean

_READING_SECONDS = 30.0
_JSON, _FORM = "application/json", "application/x-www-form-urlencoded"

T = TypeVar("T")
Name = Annotated[str, Field(max_length=300)]
"""The name of a model."""
Many = Annotated[list[T], Field(min_length=1, fail_fast=True)]
"""A list with at least one member; an error names the first wrong member."""


class Fields(BaseModel):
    """Base of all bodies. A field that the server ignores is refused, unless its value asks for what the server does
    anyway.

    Attributes:
        unread: Fields that are known and ignored, with the values that they may have because these change nothing. None
            stands for any value.
        takes_forms: Whether the body may also come as a form, whose values are texts.
    """

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
    unread: ClassVar[dict[str, Sequence[Any] | None]] = {}
    takes_forms: ClassVar[bool] = False

    @model_validator(mode="after")
    def _refuse_unread(self) -> Self:
        """Refusal: a field would be ignored."""
        for name, value in (self.model_extra or {}).items():
            if name not in self.unread:
                near = did_you_mean(name[:100], type(self).model_fields, "; leave it out")
                raise Refusal(400, f"{name[:100]}: no such field{near}", field=name[:100], code="unknown_parameter")
            neutral = self.unread[name]
            if value is not None and neutral is not None and value not in neutral:
                reason = f"{name} is not supported by this server: leave it out"
                raise Refusal(400, reason, field=name, code="unsupported_parameter")
        return self


F = TypeVar("F", bound=Fields)


def body(kind: type[F]) -> Any:
    """The dependency that reads a body of this kind: `asked: Annotated[Kind, body(Kind)]`."""

    async def read_fields(request: Request) -> F:
        content = (request.headers.get("content-type") or "").partition(";")[0].strip().lower()
        is_form = content == _FORM and kind.takes_forms
        if content != _JSON and not is_form:
            taken = f"{_JSON} or {_FORM}" if kind.takes_forms else _JSON
            raise Refusal(415, f"the Content-Type of a body here is {taken}")
        raw = await _read(request, request.app.state.serving.settings.max_body)
        try:
            return kind.model_validate(_form(raw), strict=False) if is_form else kind.model_validate_json(raw)
        except ValidationError as error:
            raise _explained(error, kind) from None

    return Depends(read_fields)


async def _read(request: Request, kilobytes: int) -> bytes:
    """The whole body. Refusal: it is too long, or does not arrive."""
    too_long = Refusal(413, f"the body has more than {kilobytes:,} kB: send less at once")
    raw, said = bytearray(), request.headers.get("content-length", "")
    if said.isdecimal() and int(said[:20]) > kilobytes << 10:
        raise too_long
    try:
        async with asyncio.timeout(_READING_SECONDS):
            async for part in request.stream():
                raw += part
                if len(raw) > kilobytes << 10:
                    raise too_long
    except TimeoutError:
        raise Refusal(408, f"the body did not come within {_READING_SECONDS:.0f} s") from None
    return bytes(raw)


def _form(raw: bytes) -> dict[str, Any]:
    """Fields of a form; fields that occur several times become lists."""
    try:
        found = parse_qs(raw.decode(), keep_blank_values=True, errors="strict", max_num_fields=1000)
    except ValueError:
        raise Refusal(400, "the form cannot be read: at most 1,000 fields, in UTF-8") from None
    return {name: values if len(values) > 1 else values[0] for name, values in found.items()}


def _explained(error: ValidationError, kind: type[Fields]) -> Refusal:
    """What is wrong with the first wrong field, without the value that was given."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    first = found[0]
    if not first["loc"]:
        return Refusal(400, f"the body is wrong: {first['msg']}")
    field = str(first["loc"][0])
    said = dict.fromkeys(one["msg"].removeprefix("Value error, ") for one in found if one["loc"][0] == field)
    return Refusal(400, f"{field}: {'; or: '.join(said)}", field=field)
