"""`transformer-zoo serve` as people start and stop it."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.serving.served import runs, writer
from transformer_zoo.cli import main
from transformer_zoo.runs import save_run

KEY = "correct horse battery staple"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
LONG = {"prompt": "a", "max_tokens": 250, "stream": True}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with runs."""
    folder = tmp_path_factory.mktemp("served")
    save_run(writer(max_seq_len=1024, eos_id=None), folder / "letters", {})
    save_run(runs()["de-en"], folder / "de-en", runs()["de-en"].recipe)
    return folder


def serving(folder: Path, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "transformer_zoo", "serve", *words, "--port", "0"]
    return subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True)


@contextmanager
def started(folder: Path, *words: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address."""
    with serving(folder, *words) as process:
        try:
            assert process.stderr is not None
            said = ""
            while not (found := re.search(r": (http://\S+) \(Ctrl-C", said)):
                line = process.stderr.readline()
                assert line, said
                said += line
            yield process, found[1].replace("0.0.0.0", "127.0.0.1")
        finally:
            process.kill()


def asked(url: str, into: list[httpx.Response]) -> threading.Thread:
    """Somebody who asks for a long text."""
    thread = threading.Thread(target=lambda: into.append(httpx.post(f"{url}/v1/completions", json=LONG, timeout=60)))
    thread.start()
    while 'running"} 1.0' not in httpx.get(f"{url}/metrics").text.replace("'", '"'):
        pass
    return thread


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_finish_and_end_well(folder: Path, number: int) -> None:
    answers = list[httpx.Response]()
    with started(folder, "letters", "de-en") as (process, url):
        assert {one["id"] for one in httpx.get(f"{url}/v1/models").json()["data"]} == {"letters", "de-en"}
        thread = asked(url, answers)
        process.send_signal(number)
        assert process.wait(60) == 0
        thread.join()
        assert answers[0].text.endswith("data: [DONE]\n\n")
        said = process.stderr.read() if process.stderr else ""
    assert "POST /v1/completions 200" in said
    assert "Traceback" not in said


def test_a_second_signal_ends_it_at_once(folder: Path) -> None:
    with (
        started(folder, "letters") as (process, url),
        socket.create_connection(("127.0.0.1", httpx.URL(url).port)) as idle,
    ):
        idle.sendall(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            b"Content-Length: 9\r\n\r\n{"
        )  # which never comes
        httpx.get(f"{url}/healthz")
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == -signal.SIGTERM


def test_keys_and_a_warning_without(folder: Path) -> None:
    (folder / "keys").write_text(KEY)
    for more, warns in (((), True), (("--keys", "keys"), False)):
        with serving(folder, "letters", "--host", "0.0.0.0", *more) as process:
            assert process.stderr is not None
            first = process.stderr.readline()
            assert first.startswith("warning: whoever reaches http://0.0.0.0:") == warns
            process.kill()
    with started(folder, "letters", "--keys", "keys") as (_, url):
        assert httpx.get(f"{url}/v1/models").status_code == 401
        assert httpx.get(f"{url}/v1/models", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200


def test_what_cannot_be_served_is_said_before_the_work(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    (tmp_path / "letters").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        for words, status, said in (
            ((), 2, "give the folder of a RUN, or the name of a model"),
            (("letters", "--port", port), 1, "give another --port or --host"),
            (("letters", "--host", "203.0.113.7"), 1, "cannot be served at"),
            (("letters", str(tmp_path / "letters")), 2, "would both be called letters"),
            (("letters", "letters"), 2, "would both be called letters"),
            (("nowhere", "--port", "0"), 1, "nowhere: no such run folder"),
            (("letters", "--port", "0", "--keys", "nowhere"), 1, "--keys nowhere cannot be read"),
            (("letters", "--max-seconds", "0"), 2, "--max-seconds is 0"),
            (("letters", "--port", "70000"), 1, "ports end at 65535"),
        ):
            assert main(["serve", *words]) == status, words
            err = capsys.readouterr().err
            assert said in err
            assert err.startswith("error: ")
            assert err.count("\n") == 1


def test_without_the_extra_one_line_says_how_to_get_it(folder: Path) -> None:
    code = (
        "import sys; sys.modules['fastapi'] = None; sys.modules['uvicorn'] = None\n"
        "from transformer_zoo.cli import main; sys.exit(main(['serve', 'letters', '--port', '0']))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 1
    assert re.fullmatch(r"error: serve needs \w+: pip install 'transformer-zoo\[serve\]'\n", done.stderr)
