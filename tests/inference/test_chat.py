"""Chat templates are rendered as transformers renders them, whatever a hostile one does it is stopped; a conversation
remembers what fits."""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

import transformer_zoo as tz
from transformer_zoo.config import Sampling
from transformer_zoo.errors import UserError
from transformer_zoo.inference import Chat, Speculation, chat, render_chat, sandbox
from transformer_zoo.inference.plain import generate_plainly
from transformer_zoo.tokenizers import ByteTokenizer, HuggingFaceTokenizer
from transformer_zoo.tokenizers.files import TokenizerFiles

TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
TALK = [
    {"role": "user", "content": "Hi "},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": "Bye?"},
]
SYSTEM = [{"role": "system", "content": "Be brief."}, *TALK]

LLAMA3 = """\
{% for message in messages %}
{%- set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' + message['content'] | trim -%}
{%- if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content + '<|eot_id|>' }}{% endfor -%}
{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"""
MISTRAL = """\
{%- if messages[0]["role"] == "system" %}{% set said = messages[0]["content"] %}{% set loop_messages = messages[1:] %}
{%- else %}{% set loop_messages = messages %}{% endif %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and said is defined %}{{ "[INST] " + said + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}{{ "[INST] " + message["content"] + "[/INST]" }}{% endif %}
    {%- elif message["role"] == "assistant" %}{{ " " + message["content"] | trim + eos_token }}
    {%- endif %}
{%- endfor %}"""
GEMMA = """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for message in messages %}
{%- set role = 'model' if message['role'] == 'assistant' else message['role'] %}
{{- '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor -%}
{% if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""
QWEN2_5 = """\
{%- if tools %}{{- '<|im_start|>system\\n# Tools\\n' }}{% for tool in tools %}{{ "\\n" }}{{ tool | tojson }}{% endfor %}
{{- '<|im_end|>\\n' }}
{%- elif messages[0]['role'] != 'system' %}{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and loop.first) or (message.role == "assistant") %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""
QWEN3 = """\
{%- set ns = namespace(multi_step=true, last=messages | length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages | length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and message.content is string %}
        {%- set ns.multi_step = false %}{% set ns.last = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "assistant" %}
        {%- if '</think>' in content %}
            {%- set thought = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last and thought %}
            {{- '<|im_start|>assistant\\n<think>\\n' + thought + '\\n</think>\\n\\n' + content }}
        {%- else %}{{ '<|im_start|>assistant\\n' + content }}{% endif %}
        {{- '<|im_end|>\\n' }}
    {%- else %}{{ '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}"""
PHI3 = """\
{% for message in messages %}
{%- if message['role'] == 'system' %}{{ '<|system|>\\n' + message['content'] + '<|end|>\\n' }}
{%- elif message['role'] == 'user' %}{{ '<|user|>\\n' + message['content'] + '<|end|>\\n' }}
{%- elif message['role'] == 'assistant' %}{{ '<|assistant|>\\n' + message['content'] + '<|end|>\\n' }}{% endif %}
{%- endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""
SMOLLM2 = """\
{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}
{{- '<|im_start|>system\\nYou are a helpful AI assistant<|im_end|>\\n' }}{% endif %}
{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
ZEPHYR = """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}"""
OTHERS = """\
{% for m in messages %}{% if m.role == 'system' %}{% continue %}{% endif %}{% generation %}{% set x = m.content %}
{{ x }}{% endgeneration %}{{ x is defined }} {{ strftime_now('%Y')|length }} {{ {'a': '<é>', 'b': [1, none]}|tojson }}
  {%- if loop.index > 2 %}{% break %}{% endif %}
{% endfor %}{{ range(3)|list }}{{ namespace(a=1).a }}{{ dict(a=1) }}{{ messages|tojson(indent=2) }}{{ missing }}"""

# The text of TALK, or of SYSTEM where there is room for what the system says, with the beginning of an answer.
GOLDEN = {
    "Llama 3": (LLAMA3, SYSTEM, (
        "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>"
        "\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello!<|eot_id|><|start_header_id|>user"
        "<|end_header_id|>\n\nBye?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    )),
    "Mistral": (MISTRAL, SYSTEM, "<s>[INST] Hi [/INST] Hello!</s>[INST] Be brief.\n\nBye?[/INST]"),
    "Gemma": (GEMMA, TALK, (
        "<s><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello!<end_of_turn>\n<start_of_turn>user\nBye?"
        "<end_of_turn>\n<start_of_turn>model\n"
    )),
    "Qwen2.5": (QWEN2_5, TALK, (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi <|im_end|>\n"
        "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye?<|im_end|>\n<|im_start|>assistant\n"
    )),
    "Qwen3": (QWEN3, [*TALK[:1], {"role": "assistant", "content": "<think>\nOh\n</think>\n\nHello!"}, *TALK[2:]], (
        "<|im_start|>user\nHi <|im_end|>\n<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )),
    "Phi-3": (PHI3, SYSTEM, (
        "<|system|>\nBe brief.<|end|>\n<|user|>\nHi <|end|>\n<|assistant|>\nHello!<|end|>\n<|user|>\nBye?<|end|>\n"
        "<|assistant|>\n"
    )),
    "SmolLM2": (SMOLLM2, TALK, (
        "<|im_start|>system\nYou are a helpful AI assistant<|im_end|>\n<|im_start|>user\nHi <|im_end|>\n"
        "<|im_start|>assistant\nHello!<|im_end|>\n<|im_start|>user\nBye?<|im_end|>\n<|im_start|>assistant\n"
    )),
    "Zephyr": (ZEPHYR, SYSTEM, (
        "<|system|>\nBe brief.</s>\n<|user|>\nHi </s>\n<|assistant|>\nHello!</s>\n<|user|>\nBye?</s>\n<|assistant|>\n"
    )),
}  # fmt: skip


class Talker(ByteTokenizer):
    """Bytes, with a chat template."""

    def __init__(self, template: str | None = PHI3) -> None:
        super().__init__()
        self.chat_template, self.named_tokens = template, TOKENS


@pytest.fixture(scope="module")
def theirs() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=words, **TOKENS)


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_texts(name: str, theirs: PreTrainedTokenizerFast) -> None:
    template, messages, golden = GOLDEN[name]
    how = {"tokenize": False, "chat_template": template, "add_generation_prompt": True}
    assert theirs.apply_chat_template(messages, **how) == golden
    assert render_chat(Talker(template), messages) == golden


TOOL = {"type": "function", "function": {"name": "now", "description": "It's <time> & 'date' — é"}}
TURNS = [*TALK, {"role": "assistant", "content": "So be it.\n"}]


@pytest.mark.parametrize("template", [*(template for template, *_ in GOLDEN.values()), OTHERS])
def test_any_conversation_is_what_transformers_makes_of_it(template: str, theirs: PreTrainedTokenizerFast) -> None:
    n_refused = 0
    for messages in (TALK, SYSTEM, TURNS, TALK[:1], TALK[1:], [TALK[0], TALK[0]]):
        for values in ({}, {"add_generation_prompt": True}, {"enable_thinking": False}, {"tools": [TOOL]}):
            ours = {"tools": None, "documents": None, "add_generation_prompt": False, **TOKENS, **values}
            try:
                wanted = theirs.apply_chat_template(messages, tokenize=False, chat_template=template, **values)
            except Exception as error:
                n_refused += 1
                with pytest.raises(type(error), match=str(error)[:9]):
                    sandbox.render(template, {**ours, "messages": messages}, 10**6)
                continue
            assert sandbox.render(template, {**ours, "messages": messages}, 10**6) == wanted
    assert n_refused < 20


HOSTILE = {
    "it counts": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "a large power": "{{ (10 ** (10 ** 9)) % 7 }}",
    "a large text": "{{ 'x' * 10 ** 10 }}",
    "a text that doubles": "{% set n = namespace(x='xx') %}{% for i in range(60) %}{% set n.x=n.x ~ n.x %}{% endfor %}",
    "a wide field": "{{ '%9999999999d' % 1 }}",
    "much text": "{% for i in range(99999) %}{{ 'x' * 99 }}{% endfor %}",
    "too many steps": "{{ range(10 ** 9) | list }}",
    "no end": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
    "classes": "{{ ''.__class__.__mro__ }}",
    "modules": "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
    "names of Python's": "{% set n = namespace() %}{% set n.__class__ = 1 %}",
    "names of Python's at once": "{{ namespace(**{'__class__': 1}) }}",
    "what is given": "{{ messages.append(1) }}",
    "a file": "{% include '/etc/passwd' %}",
    "no template": "{% if %}",
    "another type": "{{ messages + 1 }}",
    "a refusal": "{{ raise_exception('not today') }}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_template_is_stopped(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "SECONDS", 1)
    start = time.monotonic()
    with pytest.raises(
        UserError, match=r"^the chat template (takes more than 1 s|cannot be followed here: .)"
    ) as caught:
        render_chat(Talker(HOSTILE[name]), TALK)
    assert time.monotonic() - start < 30
    if name == "a refusal":
        assert str(caught.value).endswith(": not today")


@pytest.mark.parametrize("before", [None, ("RLIMIT_CPU", 5), ("RLIMIT_CPU", 1), ("RLIMIT_AS", 1 << 29)])
def test_limits_hold_whatever_limits_there_are(before: tuple[str, int] | None) -> None:
    def lower() -> None:
        if before is not None:
            resource.setrlimit(getattr(resource, before[0]), (before[1], before[1]))

    def answered(template: str) -> subprocess.CompletedProcess[str]:
        request = {"template": template, "values": {}, "seconds": 5, "bytes": 1 << 30, "longest": 99}
        return subprocess.run(
            [sys.executable, "-P", sandbox.__file__], input=json.dumps(request), capture_output=True, text=True,
            preexec_fn=lower,
        )  # fmt: skip

    assert json.loads(answered("{{ ('x' * 2 ** 28) | length }}").stdout) == {"text": str(1 << 28)}
    assert json.loads(answered("{{ ('x' * 2 ** 31) | length }}").stdout) == {"error": "MemoryError"}
    if before and before[0] == "RLIMIT_CPU":
        assert answered(HOSTILE["it counts"]).returncode == -9


ENDINGS = {
    "kill -KILL $$": "takes more than 5 s or 1024 MiB: it is not followed",
    "kill -XCPU $$": "takes more than 5 s or 1024 MiB: it is not followed",
    "kill -SEGV $$": "cannot be followed here: its process ended with SIGSEGV",
    "exit 3": "cannot be followed here: its process ended with status 3",
    "printf 'Traceback:\\n  x\\nNo jinja2\\n' >&2; exit 1": (
        "cannot be followed here: its process ended with No jinja2"
    ),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_why_a_template_gives_no_answer_is_said(ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "python"
    program.write_text(f"#!/bin/sh\ncat > /dev/null\n{ending}\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    with pytest.raises(UserError) as caught:
        render_chat(Talker(), TALK)
    assert str(caught.value) == f"the chat template {ENDINGS[ending]}"


def test_what_is_wrong_with_the_call_is_named() -> None:
    with pytest.raises(
        UserError, match=r"^there is no chat template, so the model was not trained to chat; use generate$"
    ):
        render_chat(ByteTokenizer(), TALK)
    with pytest.raises(UserError, match="values that are not JSON"):
        render_chat(Talker(), [{"role": "user", "content": object()}])


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({"chat_template.jinja": "new"}, "new"),
        ({"tokenizer_config.json": json.dumps({"chat_template": "old"})}, "old"),
        ({"chat_template.jinja": "new", "tokenizer_config.json": json.dumps({"chat_template": "old"})}, "new"),
        (
            {"tokenizer_config.json": json.dumps({"chat_template": [
                {"name": "rag", "template": "no"}, {"name": "default", "template": "yes"}]})},
            "yes",
        ),
        ({"tokenizer_config.json": json.dumps({"chat_template": 3})}, None),
        ({"tokenizer_config.json": "{}"}, None),
    ],
)  # fmt: skip
def test_where_a_template_comes_from(files: dict[str, str], wanted: str | None, tmp_path: Any) -> None:
    plain = Tokenizer(models.WordLevel({"<s>": 0, "a": 1}, unk_token="a"))
    contents = {"tokenizer.json": plain.to_str(), **files}
    made = HuggingFaceTokenizer.of(TokenizerFiles(tmp_path, {name: text.encode() for name, text in contents.items()}))
    made.save(tmp_path)
    for tokenizer in (made, HuggingFaceTokenizer.load(tmp_path)):
        assert tokenizer.chat_template == wanted


@pytest.fixture(scope="module")
def gpt() -> Any:
    return tz.create_model("gpt-nano", vocab_size=257, max_seq_len=128, tie_embeddings=False).eval()


GREEDY = Sampling(temperature=0)
SHORT = "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}a:"


def said(talk: Chat, text: str, **how: Any) -> str:
    return "".join(talk.say(text, GREEDY, **{"max_new_tokens": 12, **how}))


def plainly(gpt: Any, text: str, n: int) -> str:
    ids = list(text.encode())
    return ByteTokenizer().decode(generate_plainly(gpt, ids, GREEDY, max_new_tokens=n))


def test_a_conversation_takes_in_all_that_was_said(gpt: Any) -> None:
    talk = Chat(gpt, Talker(SHORT), system="S")
    first = said(talk, "one")
    assert first == plainly(gpt, "s:S;u:one;a:", 12)
    second = said(talk, "two")
    assert second == plainly(gpt, f"s:S;u:one;a:{first};u:two;a:", 12)
    assert [message["content"] for message in talk.messages] == ["S", "one", first, "two", second]
    assert talk.forgotten == 0


@pytest.mark.parametrize(
    "changes",
    [{}, {"positions": "rotary", "n_kv_heads": 1}, {"ngrams": {"n": 4, "rows": 13}}, {"positions": "alibi"}],
    ids=["learned", "rotary", "n-grams", "alibi"],
)
@pytest.mark.parametrize("lookup", [0, 8])
def test_what_was_read_at_one_turn_is_not_read_again(
    changes: dict[str, Any], lookup: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpt = tz.create_model("gpt-nano", vocab_size=257, max_seq_len=512, tie_embeddings=False, **changes).eval()
    talk, read, step = Chat(gpt, Talker(SHORT)), list[int](), gpt.step

    def counted(ids: Any, *words: Any, **how: Any) -> Any:
        read.append(ids.size(1))
        return step(ids, *words, **how)

    before, known = "", 0
    for text in ("one, " * 9, "two, " * 7, "three"):
        prompt = f"{before}u:{text};a:"
        monkeypatch.setattr(gpt, "step", counted)
        reply = said(talk, text, speculation=Speculation(lookup=lookup), max_new_tokens=20)
        monkeypatch.setattr(gpt, "step", step)
        assert reply == plainly(gpt, prompt, 20)
        assert sum(read) <= len(prompt.encode()) - known + 20 * (1 + lookup)  # more, if the answer is not UTF-8
        before, known, read[:] = f"{prompt}{reply};", len(prompt.encode()), []
    talk.messages.clear()  # another conversation begins otherwise
    assert said(talk, "else") == plainly(gpt, "u:else;a:", 12)


def test_an_interrupted_turn_leaves_what_can_be_gone_on_from(gpt: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    talk, ffn = Chat(gpt, Talker(SHORT)), gpt.decoder.layers[1].ffn
    first = said(talk, "one")
    calls = 0

    def interrupted(x: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return type(ffn).forward(ffn, x)

    monkeypatch.setattr(ffn, "forward", interrupted)
    with pytest.raises(KeyboardInterrupt):
        said(talk, "two")
    monkeypatch.undo()
    heard = talk.messages[-1]["content"]
    assert said(talk, "three") == plainly(gpt, f"u:one;a:{first};u:two;a:{heard};u:three;a:", 12)


def test_the_oldest_turns_leave_when_the_context_is_full(gpt: Any) -> None:
    talk = Chat(gpt, Talker(SHORT), system="S")
    for turn in range(9):
        before = [*talk.messages]
        answer = said(talk, f"turn {turn}")
        kept = talk.messages
        text = "".join(f"{message['role'][0]}:{message['content']};" for message in kept[:-1]) + "a:"
        assert answer == plainly(gpt, text, 12)
        assert kept[0] == {"role": "system", "content": "S"}
        assert [message["role"] for message in kept[1:]] == ["user", "assistant"] * (len(kept) // 2)
        assert len(text.encode()) <= 128 - 12
        n_gone = len(before) + 2 - len(kept)
        if n_gone:  # and no more than had to
            longer = [kept[0], *before[n_gone - 1 :], kept[-2]]
            assert len(b"a:" + b"".join(f"{m['role'][0]}:{m['content']};".encode() for m in longer)) > 128 - 12
    assert talk.forgotten + len(talk.messages) == 19
    assert talk.forgotten > 2


def test_a_turn_that_is_longer_than_the_context_is_named_and_not_remembered(gpt: Any) -> None:
    talk = Chat(gpt, Talker(SHORT))
    said(talk, "one")
    before = [*talk.messages]
    with pytest.raises(UserError, match="this turn has 305 tokens, and the model's context holds 128"):
        said(talk, "x" * 300)
    assert talk.messages == before
    assert talk.forgotten == 0
    assert len(said(talk, "x" * 110, max_new_tokens=99).encode()) <= 99  # as many as there is room for


@pytest.mark.parametrize("wrong", [{"stops": [""]}, {"max_new_tokens": 0}, {"max_new_tokens": -1}, {"seed": -1}])
def test_nothing_is_remembered_of_a_turn_that_is_refused(wrong: dict[str, Any], gpt: Any) -> None:
    talk = Chat(gpt, Talker(SHORT))
    while talk.forgotten == 0:
        said(talk, "x" * 30)
    before = ([*talk.messages], talk.forgotten)
    with pytest.raises(UserError):
        said(talk, "y" * 60, **wrong)
    assert (talk.messages, talk.forgotten) == before


def test_what_was_read_of_an_answer_is_remembered(gpt: Any) -> None:
    talk = Chat(gpt, Talker(SHORT))
    pieces: Iterator[str] = talk.say("one", GREEDY, max_new_tokens=12)
    heard = next(pieces) + next(pieces)
    pieces.close()  # type: ignore[attr-defined]
    assert talk.messages[1:] == [{"role": "assistant", "content": heard}]


def test_stop_strings_end_an_answer(gpt: Any) -> None:
    whole = said(Chat(gpt, Talker(SHORT)), "one")
    stop = whole[4:6]
    assert said(Chat(gpt, Talker(SHORT)), "one", stops=[stop]) == whole[: whole.index(stop)]


def test_tokens_that_are_text_to_the_tokenizer_are_named(gpt: Any) -> None:
    with pytest.raises(UserError, match=r"^<s> of the chat template is text to this tokenizer, not a token"):
        Chat(gpt, Talker("{{ bos_token }}" + SHORT))
    with pytest.raises(UserError, match="there is no chat template"):
        Chat(gpt, ByteTokenizer())
