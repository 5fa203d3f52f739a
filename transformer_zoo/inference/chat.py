"""Conversations: messages rendered as the one text that a model was trained to read, and the model's answers."""

import json
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

from transformer_zoo.config import Sampling
from transformer_zoo.errors import UserError
from transformer_zoo.inference.codec import codec_of
from transformer_zoo.inference.engine import Kept, Steps
from transformer_zoo.inference.speculation import Speculation
from transformer_zoo.inference.text import answer
from transformer_zoo.models import DecodingModel, check_decoding
from transformer_zoo.tokenizers.tokenizer import Tokenizer

Message = Mapping[str, Any]
"""A message: `role` (system, user or assistant) and `content`."""

SECONDS, BYTES, CHARACTERS = 5, 1 << 30, 4_000_000
"""Limits of rendering a template: time, memory, and length of the text."""


def render_chat(tokenizer: Tokenizer, messages: Sequence[Message], *, to_answer: bool = True, **values: Any) -> str:
    """The text of a conversation, rendered by the chat template that came with the tokenizer.

    The template is a program by an unknown author. It runs in jinja2's sandbox, in a process of its own that is stopped
    after `SECONDS` and gets at most `BYTES` of memory.
    >>> render_chat(talker, [{"role": "user", "content": "Hi"}])
    '<|user|>Hi<|end|><|assistant|>'

    Args:
        tokenizer: as `load_run` returns it.
        messages: the messages, in order.
        to_answer: whether to add the beginning of the model's answer.
        values: other values that the template may ask for, such as `enable_thinking` or `tools`; anything JSON can
            hold.

    Raises:
        UserError: there is no template, or it fails, or it refuses the conversation.
    """
    template = _template(tokenizer)
    known = {"tools": None, "documents": None, "add_generation_prompt": to_answer, **tokenizer.named_tokens}
    request = {"template": template, "values": {**known, **values, "messages": [*map(dict, messages)]}}
    limits = {"seconds": SECONDS, "bytes": BYTES, "longest": CHARACTERS}
    command = [sys.executable, "-P", str(Path(__file__).with_name("sandbox.py"))]
    try:
        done = subprocess.run(
            command, input=json.dumps({**request, **limits}), capture_output=True, text=True, timeout=12 * SECONDS
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"the chat template takes more than {SECONDS} s: it is not followed") from None
    except (TypeError, ValueError) as error:
        raise UserError(f"the chat template is given values that are not JSON ({error})") from None
    if done.returncode:
        raise UserError(_ending(done.returncode, done.stderr))
    answer = json.loads(done.stdout)
    if "error" in answer:
        raise UserError(f"the chat template cannot be followed here: {answer['error']}")
    return str(answer["text"])


def _template(tokenizer: Tokenizer) -> str:
    if tokenizer.chat_template is None:
        raise UserError("there is no chat template, so the model was not trained to chat; use generate")
    return tokenizer.chat_template


def _ending(status: int, errors: str) -> str:
    """The reason why a template's process ended without an answer."""
    name = {-one: one.name for one in signal.Signals}.get(status, f"status {status}")
    if name in ("SIGKILL", "SIGXCPU"):
        return f"the chat template takes more than {SECONDS} s or {BYTES >> 20} MiB: it is not followed"
    last = (errors.strip().splitlines() or [name])[-1]
    return f"the chat template cannot be followed here: its process ended with {last}"


class Chat:
    """A conversation with a model. It remembers messages as far as the model's context reaches.

    When the context is full, the oldest turns are forgotten, except for the system's message. Tokens that were read at
    one turn are not read again at the next, as long as the conversation has the same beginning. (On a GPU they are.)
    >>> chat = Chat(gpt, talker, system="Sing.")
    >>> reply = "".join(chat.say("Hello", max_new_tokens=8))
    >>> [message["role"] for message in chat.messages]
    ['system', 'user', 'assistant']

    Args:
        model, tokenizer: as `load_run` returns them.
        system: a message to the model before anything else.

    Attributes:
        messages: the messages that are remembered.
        forgotten: how many messages were forgotten.

    Raises:
        UserError: there is no chat template, or the tokenizer does not know its tokens.
    """

    def __init__(self, model: DecodingModel, tokenizer: Tokenizer, *, system: str | None = None) -> None:
        check_decoding(model, "Chat")
        self.model, self.tokenizer, self.forgotten, self._kept = model, tokenizer, 0, Kept()
        self.messages: list[Message] = [] if system is None else [{"role": "system", "content": system}]
        self._n_system = len(self.messages)
        template = _template(tokenizer)
        for role, token in tokenizer.named_tokens.items():
            if role in template and len(tokenizer.encode(token)) > 1:
                raise UserError(
                    f"{token} of the chat template is text to this tokenizer, not a token: save it once with "
                    "transformers' AutoTokenizer, which writes a tokenizer.json"
                )

    def say(
        self,
        text: str,
        sampling: Sampling = Sampling(),
        *,
        stops: Sequence[str] = (),
        max_new_tokens: int = 512,
        seed: int | None = None,
        speculation: Speculation = Speculation(),
    ) -> Generator[str, None, None]:
        """The model's answer, piece by piece. If the caller stops reading, the part that was read is remembered.

        Args:
            text: the user's turn.
            sampling, stops, max_new_tokens, seed, speculation: as for `write`.

        Raises:
            UserError: as for `render_chat` and `write`, or the turn alone is longer than the context. Nothing of the
                turn is remembered then.
        """
        turns, ids = self._fitting([*self.messages, {"role": "user", "content": text}], max_new_tokens)
        before, reply = (self.messages, self.forgotten), {"role": "assistant", "content": ""}
        self.forgotten += len(self.messages) + 1 - len(turns)
        self.messages = [*turns, reply]
        try:
            for piece in answer(
                self.model,
                codec_of(self.model, self.tokenizer),
                [ids],
                sampling,
                stops=stops,
                max_new_tokens=min(max_new_tokens, self.model.facts.context - len(ids)),
                seed=seed,
                speculation=speculation,
                steps=Steps(kept=self._kept),
            ):
                reply["content"] += piece.text
                yield piece.text
        except UserError:
            self.messages, self.forgotten = before
            raise

    def _fitting(self, messages: list[Message], max_new_tokens: int) -> tuple[list[Message], list[int]]:
        """The conversation and its ids, without the oldest turns if there would be no space for an answer."""
        context = self.model.facts.context
        room = context - min(max_new_tokens, context // 2)
        while True:
            ids = self.tokenizer.encode(render_chat(self.tokenizer, messages))
            is_alone = len(messages) < self._n_system + 3
            if is_alone and len(ids) >= context:
                raise UserError(f"this turn has {len(ids):,} tokens, and the model's context holds {context:,}")
            if is_alone or len(ids) <= room:
                return messages, ids
            messages = [*messages[: self._n_system], *messages[self._n_system + 2 :]]
