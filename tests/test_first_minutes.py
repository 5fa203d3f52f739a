"""A stranger's first ten minutes with README, from a clean clone, timed: install, demo, server, page, translation."""

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright

from .test_docs import commands, fences
from .web.browser import chromium

SOURCE = "The train leaves at half past nine."


def clean(root: Path) -> dict[str, str]:
    """The environment of somebody who has nothing of this repository in theirs."""
    left_out = re.compile("PYTHONPATH|VIRTUAL_ENV|HF_.*|OMP_.*|GOMP_.*|MAKE.*|MFLAGS")
    path = [place for place in os.environ["PATH"].split(":") if not Path(place).is_relative_to(root)]
    return {name: value for name, value in os.environ.items() if not left_out.fullmatch(name)} | {
        "PATH": ":".join(path)
    }


@contextmanager
def server(command: str, folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """The address that README's command serves at, here at any free port."""
    words = [str(folder / ".venv" / "bin" / "transformer-zoo"), *command.split()[1:], "--port", "0"]
    with subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = re.search(r"http://\S+", process.stderr.readline())
            assert said
            yield said[0]
        finally:
            process.terminate()
            process.communicate(timeout=60)


def translated_on_the_page(address: str) -> str:
    """What the page shows for the sentence."""
    with sync_playwright() as playwright:
        page = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"]).new_page()
        page.goto(address)
        page.get_by_label("Text", exact=True).fill(SOURCE)
        expect(page.locator("#target .word")).not_to_have_count(0)
        return page.locator("#target").inner_text()


@pytest.mark.slow
def test_the_first_ten_minutes(root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begun, environment, clone = time.time(), clean(root), tmp_path / "clone"

    def stamp(what: str, at: float | None = None) -> None:
        with capsys.disabled():
            print(f"{(at or time.time()) - begun:6.0f} s  {what}")

    def run(*command: object) -> str:
        done = subprocess.run([*map(str, command)], cwd=clone, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    subprocess.run(["git", "clone", "-q", root, clone], check=True)
    page = fences((clone / "README.md").read_text("utf-8"))
    shell = [command for fence in page if fence.language == "bash" for command in commands(fence.body)]
    lines = next(fence.body for fence in page if fence.language == "python").strip().splitlines()
    [serve, *_] = [command for command in shell if command.startswith("transformer-zoo serve ")]
    assert shell[0] == "make demo"
    trained = run("make", "demo")
    assert re.search(r"BLEU \d\d", trained)
    stamp("installed", (clone / ".venv" / "installed").stat().st_mtime)
    stamp("trained, and translated some")
    with server(serve, clone, environment) as address:
        stamp("the server answers")
        assert httpx.get(address).status_code == 200
        shown = translated_on_the_page(address).strip()
        stamp(f"the page shows {shown}")
    said = run(clone / ".venv" / "bin" / "python", "-c", "\n".join([*lines[:-1], f"print({lines[-1]})"])).strip()
    stamp(f"Python says {said}")
    assert shown == said
    assert "Zug" in said
