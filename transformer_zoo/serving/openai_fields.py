"""Bodies of OpenAI's clients: the fields that are used here, and those that are allowed because they change nothing."""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from transformer_zoo.config import Sampling
from transformer_zoo.errors import UserError
from transformer_zoo.serving.bodies import Fields, Many, Name
from transformer_zoo.serving.refusals import Refusal

Stop = Annotated[str, Field(min_length=1, max_length=300)]
Seed = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Count = Annotated[int, Field(ge=1)]

_ABOUT_ME: dict[str, Sequence[Any] | None] = dict.fromkeys(
    ("user", "metadata", "safety_identifier", "prompt_cache_key", "service_tier"), None
)
_NO_PENALTY: dict[str, Sequence[Any] | None] = {
    "frequency_penalty": [0], "presence_penalty": [0], "logit_bias": [{}],
}  # fmt: skip


class StreamOptions(Fields):
    """How a stream is sent."""

    include_usage: bool = False


class WritingFields(Fields):
    """What prompts and conversations have in common.

    `top_k`, `min_p` and `repetition_penalty` are not OpenAI's, but other open servers have them too.
    """

    model: Name | None = None
    n: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    stop: Stop | Annotated[Many[Stop], Field(max_length=16)] | None = None
    seed: Seed | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None

    @property
    def sampling(self) -> Sampling:
        """How the next token is drawn. Refusal: these numbers are not possible."""
        names = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        try:
            return Sampling(**given)
        except UserError as error:
            raise Refusal(400, str(error), field=str(error).partition(" ")[0]) from None

    @property
    def stops(self) -> list[str]:
        """Texts that end an answer."""
        return [self.stop] if isinstance(self.stop, str) else self.stop or []

    @property
    def sends_usage(self) -> bool:
        """Whether a stream ends with the number of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


class CompletionFields(WritingFields):
    """Prompts to continue: a text, several texts, the ids of one or of several."""

    prompt: str | Many[str] | Many[Annotated[int, Field(ge=0)]] | Many[Many[Annotated[int, Field(ge=0)]]]
    max_tokens: Count | None = None
    unread: ClassVar = {
        **_ABOUT_ME, **_NO_PENALTY, "best_of": [1], "echo": [False], "logprobs": [], "suffix": [""],
    }  # fmt: skip

    @property
    def prompts(self) -> list[str | list[int]]:
        """Each prompt."""
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [[token for token in self.prompt if isinstance(token, int)]]
        return [one for one in self.prompt if not isinstance(one, int)]


class TextPart(Fields):
    """A part of a message."""

    type: Literal["text"]
    text: str


class MessageFields(Fields):
    """A message, and its author."""

    role: Annotated[str, Field(min_length=1, max_length=40)]
    content: str | Many[TextPart]
    unread: ClassVar = {"name": None, "refusal": [], "tool_calls": [[]], "audio": [], "annotations": [[]]}

    def plain(self) -> dict[str, str]:
        """The message in the form of a chat template."""
        said = self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)
        return {"role": self.role, "content": said}


class ChatFields(WritingFields):
    """A conversation that gets an answer."""

    messages: Many[MessageFields]
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    unread: ClassVar = {
        **_ABOUT_ME, **_NO_PENALTY, "logprobs": [False], "top_logprobs": [], "response_format": [{"type": "text"}],
        "tools": [[]], "tool_choice": ["none", "auto"], "functions": [[]], "function_call": ["none", "auto"],
        "parallel_tool_calls": None, "store": [False], "modalities": [["text"]], "audio": [], "prediction": [],
        "reasoning_effort": [], "verbosity": [], "web_search_options": [],
    }  # fmt: skip


class EmbeddingFields(Fields):
    """Texts whose vectors are wanted."""

    model: Name | None = None
    input: str | Annotated[Many[str], Field(max_length=2048)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Count | None = None
    unread: ClassVar = _ABOUT_ME

    @property
    def texts(self) -> list[str]:
        """Each text."""
        return [self.input] if isinstance(self.input, str) else self.input
