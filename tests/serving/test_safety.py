"""Safe to leave on: who may ask, how much, what is logged, and that nothing a client sends ends the server."""

import json
import logging
import random
import socket
import string
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi.routing import APIRoute

from tests.serving.served import eventually, runs, served, writer
from transformer_zoo.config.serving import ServingSettings
from transformer_zoo.errors import UserError
from transformer_zoo.serving.app import create_app
from transformer_zoo.serving.keys import Keys

KEY = "correct horse battery staple"
SECRET = "zanzibar7"
OPEN = {"/", "/healthz", "/static/{name}"}
RIGHT: dict[str, dict[str, Any]] = {
    "/translate": {"q": "ja", "source": "de", "target": "en"},
    "/detect": {"q": "ja"},
    "/score": {"source": "ja", "target": "yes", "model": "de-en"},
    "/v1/completions": {"model": "letters", "prompt": "a", "max_tokens": 2},
    "/v1/chat/completions": {"model": "talker", "messages": [{"role": "user", "content": "a"}], "max_tokens": 2},
    "/v1/embeddings": {"model": "vectors", "input": "a"},
    "/page/translate": {"model": "de-en", "text": "ja", "prefix": [5], "n_best": 2},
    "/page/write": {"model": "letters", "text": "a", "max_new_tokens": 2},
    "/page/next": {"model": "letters", "ids": [97]},
    "/page/probabilities": {"model": "letters", "ids": [97, 98]},
    "/page/attention": {"model": "de-en", "text": "ja", "target": "a", "kind": "cross", "layer": 0},
    "/page/neighbours": {"model": "letters", "word": "a", "plus": ["b"]},
}
POSTS = tuple(RIGHT)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(runs(), ServingSettings(max_body=64)) as (url, _):
        yield url


@pytest.fixture(scope="module")
def keyed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    path = tmp_path_factory.mktemp("keys") / "keys"
    path.write_text(f"# mine\n\n{KEY}\nanother key of somebody\n")
    with served(runs(), ServingSettings(keys=path)) as (url, _):
        yield url


def reason(answer: httpx.Response) -> str:
    """Why it was refused, in one line."""
    said = answer.json()["error"]
    line: str = said["message"] if isinstance(said, dict) else said
    assert line
    assert "\n" not in line
    return line


# Who may ask


def test_every_route_but_few_needs_a_key(keyed: str, tmp_path: Path) -> None:
    app = create_app({})
    found = {
        (route.path, method)
        for router in app.routes
        for route in getattr(getattr(router, "original_router", None), "routes", [router])
        if isinstance(route, APIRoute)
        for method in route.methods
    }
    assert {path for path, _ in found} >= {*POSTS, "/metrics", "/languages", "/v1/models", "/healthz"}
    for path, method in found:
        body = json.dumps(RIGHT.get(path, {})) if method == "POST" else None
        answer = httpx.request(method, keyed + path, content=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code == 401) == (path not in OPEN), path


@pytest.mark.parametrize("path", POSTS)
def test_a_key_opens_and_another_does_not(keyed: str, path: str) -> None:
    for given, expected in ((KEY, False), (KEY + "x", True), ("x", True), (KEY.upper(), True)):
        answer = httpx.post(keyed + path, json=RIGHT[path], headers={"Authorization": f"Bearer {given}"}, timeout=60)
        assert (answer.status_code == 401) == expected, (given, answer.text)


def test_libretranslates_key_is_in_the_body(keyed: str) -> None:
    right = RIGHT["/translate"]
    assert httpx.post(f"{keyed}/translate", json={**right, "api_key": KEY}).status_code == 200
    assert httpx.post(f"{keyed}/translate", data={**right, "api_key": KEY}).status_code == 200
    assert httpx.post(f"{keyed}/translate", data={**right, "api_key": "x"}).status_code == 401
    assert httpx.post(f"{keyed}/translate?api_key={KEY}", json=right).status_code == 401


@pytest.mark.parametrize("text", ["", "# none\n\n", "short\n", "ein Schlüssel, der lang ist\n"])
def test_keys_that_protect_nothing_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "keys").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="key"):
        Keys.read(tmp_path / "keys")
    with pytest.raises(UserError, match="cannot be read"):
        Keys.read(tmp_path)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:1", 200),
        ("127.0.0.1:80", 200),
        ("[::1]:80", 200),
        ("evil.example", 421),
        ("localhost.evil.example", 421),
        ("evil.example:8000", 421),
        ("localhost@evil.example", 421),
        ("93.184.216.34", 421),
        ("", 421),
        ("[", 421),
    ],
)
def test_only_known_names_are_answered(url: str, host: str, status: int) -> None:
    answer = httpx.get(f"{url}/healthz", headers={"Host": host})
    assert answer.status_code == status
    assert status == 200 or "--allowed-hosts" in reason(answer)


def test_names_can_be_given() -> None:
    settings = ServingSettings(host="127.0.0.1", allowed_hosts=["Zoo.example"], cors=["https://a.example"])
    with served({}, settings) as (url, _):
        for host, status in (("zoo.example:8000", 200), ("other.example", 421)):
            assert httpx.get(f"{url}/healthz", headers={"Host": host}).status_code == status
        wanted = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        answer = httpx.options(f"{url}/translate", headers={"Origin": "https://a.example", **wanted})
        assert answer.headers["access-control-allow-origin"] == "https://a.example"
        answer = httpx.options(f"{url}/translate", headers={"Origin": "https://b.example", **wanted})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize("origin", ["a.example", "https://a.example/", "https://A.example", "https://a b", ""])
def test_an_origin_that_no_browser_sends_is_refused(origin: str) -> None:
    with pytest.raises(UserError, match=r"is not an origin.*as https://a.example"):
        ServingSettings(cors=["https://b.example:8000", "*", origin])


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:1"])
def test_pages_of_other_sites_may_not_ask(url: str, origin: str) -> None:
    answer = httpx.post(f"{url}/translate", data=RIGHT["/translate"], headers={"Origin": origin})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    own = httpx.post(f"{url}/translate", data=RIGHT["/translate"], headers={"Origin": url})
    assert own.status_code == 200


@pytest.mark.parametrize("path", ["/healthz", "/nowhere", "/translate"])
def test_every_answer_keeps_a_browser_strict(url: str, path: str) -> None:
    headers = httpx.get(url + path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert "server" not in headers


# How much


def chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 1000):
        yield b"x" * 1000


@pytest.mark.parametrize("path", POSTS)
def test_a_large_body_is_refused_while_it_is_read(url: str, path: str) -> None:
    headers = {"Content-Type": "application/json"}
    for body in (b"x" * 70_000, chunks(70_000), chunks(5_000_000)):
        answer = httpx.post(url + path, content=body, headers=headers)
        assert answer.status_code == 413
        assert "more than 64 kB" in reason(answer)


@pytest.mark.parametrize(
    ("path", "changes", "said"),
    [
        ("/v1/completions", {"max_tokens": 5000}, "max_tokens is 5,000: this server writes at most 4,096"),
        ("/v1/completions", {"max_tokens": 300}, "prompt and answer are at most 256 tokens"),
        ("/v1/completions", {"prompt": "a" * 1000}, "the prompt has 1,000 tokens"),
        ("/v1/completions", {"prompt": [300]}, "a token outside the vocabulary of 257"),
        ("/v1/completions", {"n": 33}, "more than 32 answers"),
        ("/v1/completions", {"prompt": ["a"] * 33}, "more than 32 answers"),
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a" * 1000}]}, "tokens"),
        ("/translate", {"q": ["ja"] * 33}, "more than 32 texts"),
    ],
)
def test_too_much_is_refused(url: str, path: str, changes: dict[str, Any], said: str) -> None:
    answer = httpx.post(url + path, json={**RIGHT[path], **changes})
    assert answer.status_code == 422
    assert said in reason(answer)


@pytest.mark.parametrize(
    ("path", "changes", "said"),
    [
        ("/v1/completions", {"temperature": -1}, "temperature is -1"),
        ("/v1/completions", {"top_p": 2}, "top_p is 2"),
        ("/v1/completions", {"max_tokens": True}, "max_tokens: Input should be a valid integer"),
        ("/v1/completions", {"prompt": []}, "prompt: "),
        ("/v1/completions", {"prompt": [SECRET, 3]}, "prompt: "),
        ("/v1/completions", {"stop": ""}, "stop: "),
        ("/v1/completions", {"tempersture": 1}, "tempersture: no such field; did you mean temperature?"),
        ("/v1/completions", {"model": None}, "say which of letters, talker"),
        ("/v1/chat/completions", {"messages": "a"}, "messages: "),
        ("/v1/chat/completions", {"messages": [{"role": "user"}]}, "messages: "),
        ("/v1/embeddings", {"dimensions": 4}, "dimensions: this model has 128"),
    ],
)
def test_what_is_wrong_is_named_in_openais_form(url: str, path: str, changes: dict[str, Any], said: str) -> None:
    answer = httpx.post(url + path, json={**RIGHT[path], **changes})
    assert answer.status_code == 400
    assert said in reason(answer)
    assert answer.json()["error"]["param"] == next(iter(changes))
    assert SECRET not in answer.text


UNSUPPORTED = {
    "/v1/completions": {
        "best_of": 3, "echo": True, "logprobs": 2, "suffix": "x", "logit_bias": {"5": 1}, "presence_penalty": 0.5,
        "frequency_penalty": 1,
    },
    "/v1/chat/completions": {
        "tools": [{"type": "function"}], "tool_choice": "required", "response_format": {"type": "json_object"},
        "logprobs": True, "top_logprobs": 3, "audio": {"voice": "x"}, "modalities": ["text", "audio"], "store": True,
        "functions": [{}], "prediction": {}, "reasoning_effort": "high", "web_search_options": {},
    },
}  # fmt: skip
NEUTRAL = {
    "/v1/completions": {"best_of": 1, "echo": False, "logprobs": None, "suffix": None, "logit_bias": {}, "user": "me"},
    "/v1/chat/completions": {
        "tools": [], "response_format": {"type": "text"}, "logprobs": False, "presence_penalty": 0.0, "store": False,
        "metadata": {"a": "b"}, "service_tier": "auto", "n": 1,
    },
}  # fmt: skip


@pytest.mark.parametrize(("path", "name"), [(path, name) for path in UNSUPPORTED for name in UNSUPPORTED[path]])
def test_what_is_not_supported_is_refused_by_name(url: str, path: str, name: str) -> None:
    answer = httpx.post(url + path, json={**RIGHT[path], name: UNSUPPORTED[path][name]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == name
    assert f"{name} is not supported" in reason(answer)


@pytest.mark.parametrize("path", list(NEUTRAL))
def test_what_changes_nothing_may_stand_there(url: str, path: str) -> None:
    assert httpx.post(url + path, json={**RIGHT[path], **NEUTRAL[path]}).status_code == 200


@contextmanager
def asking(url: str, path: str, body: dict[str, Any]) -> Iterator[socket.socket]:
    """A client that has asked, and does not read yet; at the end it goes away."""
    address, sent = httpx.URL(url), json.dumps(body).encode()
    with socket.create_connection((address.host, address.port or 80)) as client:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        client.sendall(f"{head}Content-Length: {len(sent)}\r\n\r\n".encode() + sent)
        yield client


ENDLESS = {"max_seq_len": 4096, "eos_id": None}
LONG = {"prompt": "a", "max_tokens": 4000}


def test_a_full_queue_says_when_to_come_again() -> None:
    with served({"letters": writer(**ENDLESS)}, max_batch=1, max_queue=1) as (url, engines):
        path, engine = "/v1/completions", engines["letters"]
        with asking(url, path, LONG):
            assert eventually(lambda: engine.n_running == 1)
            with asking(url, path, LONG):
                assert eventually(lambda: engine.n_waiting == 1)
                for changes in ({}, {"stream": True}, {"n": 2}):
                    answer = httpx.post(url + path, json={**LONG, **changes})
                    assert answer.status_code == 429
                    assert int(answer.headers["retry-after"]) >= 1
                    assert "waiting" in reason(answer)
                assert (engine.n_running, engine.n_waiting) == (1, 1)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_frees_its_place(stream: bool) -> None:
    with served({"letters": writer(**ENDLESS)}, max_batch=1) as (url, engines):
        engine, asked = engines["letters"], {**LONG, "stream": stream}
        with asking(url, "/v1/completions", asked) as running:
            assert eventually(lambda: engine.n_running == 1)
            if stream:
                assert b"200 OK" in running.recv(100)
            with asking(url, "/v1/completions", asked):
                assert eventually(lambda: engine.n_waiting == 1)
            assert eventually(lambda: engine.n_waiting == 0)
            assert engine.n_running == 1
        assert eventually(lambda: engine.n_running == 0)
        assert 'status="499"' in httpx.get(f"{url}/metrics").text or stream
        short = httpx.post(f"{url}/v1/completions", json={"prompt": "a", "max_tokens": 2}, timeout=30)
        assert short.status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_what_takes_too_long_is_given_up(stream: bool) -> None:
    with served({"letters": writer(**ENDLESS)}, ServingSettings(max_seconds=0.5)) as (url, engines):
        answer = httpx.post(f"{url}/v1/completions", json={**LONG, "stream": stream}, timeout=30)
        assert "this takes more than 0.5 s" in answer.text
        if stream:
            assert "[DONE]" not in answer.text
        else:
            assert answer.status_code == 503
            assert answer.headers["retry-after"]
        assert eventually(lambda: engines["letters"].n_running == 0)


def test_what_runs_is_finished_at_the_end() -> None:
    answers = list[httpx.Response]()
    with served({"letters": writer(**ENDLESS)}) as (url, engines):
        body = {"prompt": "a", "max_tokens": 300, "stream": True}
        ask = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/v1/completions", json=body, timeout=60))
        )
        ask.start()
        assert eventually(lambda: engines["letters"].n_running == 1)
    ask.join()
    assert answers[0].text.endswith("data: [DONE]\n\n")


def test_after_the_grace_what_runs_is_broken_off() -> None:
    answers = list[httpx.Response]()
    with served({"letters": writer(**ENDLESS)}, ServingSettings(grace=1)) as (url, engines):
        ask = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{url}/v1/completions", json=LONG, timeout=60))
        )
        ask.start()
        assert eventually(lambda: engines["letters"].n_running == 1)
    ask.join()
    assert answers[0].status_code == 503
    assert reason(answers[0]) == "the server stops"


# What is logged


def test_nothing_of_anybodys_text_is_logged(
    caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG), served(runs()) as (url, engines):
        caplog.clear()
        for path, right in RIGHT.items():
            for name in right:
                for value in (SECRET, [SECRET], {SECRET: SECRET}):
                    httpx.post(f"{url}{path}?q={SECRET}", json={**right, name: value, SECRET: 1})
                    httpx.post(f"{url}{path}?q={SECRET}", json={**right, name: value})
            httpx.post(url + path, content=f'{{"{SECRET}', headers={"Content-Type": "application/json"})
        httpx.request(SECRET.upper(), f"{url}/{SECRET}", headers={"X-Forwarded-For": SECRET, "Origin": SECRET})
        httpx.get(f"{url}/{SECRET}", headers={"Host": SECRET})

        def fail(*_: object, **__: object) -> None:
            raise RuntimeError(SECRET)

        engines["vectors"].embed = fail  # type: ignore[method-assign, assignment]
        answer = httpx.post(f"{url}/v1/embeddings", json=RIGHT["/v1/embeddings"])
        assert answer.status_code == 500
        assert SECRET not in httpx.get(f"{url}/metrics").text
        lines = [record for record in caplog.records if record.name == "transformer_zoo.serving"]
        assert any("POST /v1/completions 200" in record.getMessage() for record in lines)
        assert any("RuntimeError at test_safety.py" in record.getMessage() for record in lines)
    out, err = capfd.readouterr()
    clients = ("httpx", "httpcore.connection", "httpcore.http11")
    said = "".join(logging.Formatter().format(one) for one in caplog.records if one.name not in clients)
    assert SECRET not in (said + out + err).lower()


# Garbage


def some_json(draw: random.Random, depth: int = 0) -> Any:
    """A value of any kind."""
    kinds: list[Callable[[], Any]] = [
        lambda: None,
        lambda: draw.choice([True, False]),
        lambda: draw.choice([0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**30, draw.randint(-9, 9)]),
        lambda: draw.choice([0.5, -0.0, 1e308, 1e-320, float("nan"), float("inf"), float("-inf")]),
        lambda: "".join(draw.choices(string.printable + "é漢\x00\u2028\ufeff😀", k=draw.choice([0, 1, 5, 300]))),
        lambda: draw.choice(["a", "auto", "de", "letters", "vectors", "user", "text", "\ud800"]),
    ]
    if depth < 3:
        kinds += [
            lambda: [some_json(draw, depth + 1) for _ in range(draw.choice([0, 1, 2, 40]))],
            lambda: {str(some_json(draw, 9)): some_json(draw, depth + 1) for _ in range(draw.choice([0, 1, 3]))},
        ]
    return draw.choice(kinds)()


def broken(draw: random.Random, right: dict[str, Any]) -> bytes:
    """A body that is wrong, or nearly right."""
    whole = json.dumps(right).encode()
    kinds: list[Callable[[], bytes]] = [
        lambda: json.dumps({**right, draw.choice(list(right)): some_json(draw)}).encode(),
        lambda: json.dumps(
            {**right, draw.choice(["n", "seed", "stop", "stream", "temperature"]): some_json(draw)}
        ).encode(),
        lambda: json.dumps(some_json(draw)).encode(),
        lambda: whole[: draw.randrange(len(whole))],
        lambda: bytes(draw.choices(range(256), k=draw.choice([0, 1, 30]))),
        lambda: b"[" * 20_000 + b"]" * 20_000,
        lambda: b'{"q":' * 5_000,
        lambda: b'{"max_tokens": ' + b"9" * 10_000 + b"}",
        lambda: whole.replace(b'"a"', b'"\xff\xfe"').replace(b'"ja"', b'"\xed\xa0\x80"'),
        lambda: whole.replace(b'"a"', b'"\\ud800"').replace(b'"ja"', b'"\\udc00x"'),
        lambda: json.dumps({f"x{i}": i for i in range(3000)}).encode(),
    ]
    return draw.choice(kinds)()


TYPES = (
    "application/json", "application/x-www-form-urlencoded", "text/plain", "multipart/form-data; boundary=x", "",
    "application/json; charset=utf-16", "\xff", "application/x-www-form-urlencoded; charset=x",
)  # fmt: skip


@pytest.mark.parametrize("path", POSTS)
def test_no_garbage_is_the_servers_fault(url: str, path: str) -> None:
    draw = random.Random(path)
    with httpx.Client(timeout=60) as client:
        for _ in range(100):
            body, kind = broken(draw, RIGHT[path]), draw.choices(TYPES, [30, 5, 1, 1, 1, 1, 1, 1])[0]
            content = iter([body[:7], body[7:]]) if draw.random() < 0.2 else body
            answer = client.post(url + path, content=content, headers={"Content-Type": kind.encode("latin-1")})
            assert answer.status_code < 500 or path == "/detect", (body, answer.text)
            if answer.status_code >= 400:
                reason(answer)
        assert client.post(url + path, json=RIGHT[path]).status_code in (200, 422, 501)


RAW = [
    b"GET / HTTP/9.9\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00",
    b"POST /translate HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n",
    b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999999\r\n"
    b"Content-Type: application/json\r\n\r\n",
    b"GET /%ff%00%0a HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100_000 + b"\r\n\r\n",
    b"POST /translate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
]


@pytest.mark.parametrize("number", range(len(RAW)))
def test_what_is_no_http_ends_nothing(url: str, number: int) -> None:
    address = httpx.URL(url)
    with socket.create_connection((address.host, address.port or 80)) as client:
        client.sendall(RAW[number])
        client.settimeout(1)
        with suppress(OSError):
            assert b" 500 " not in client.recv(1000)
    assert httpx.get(f"{url}/healthz").status_code == 200
