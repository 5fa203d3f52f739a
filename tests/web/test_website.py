"""The site in a browser: it asks nobody else, can be read by everybody, and fits a phone."""

from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from playwright.sync_api import Browser, Page

from tests.website.build import build

from .test_page import check

PAGES = ("index", "learn/2_attention", "results", "reference/blocks", "source/transformer_zoo/blocks/attention.py")


class Quiet(SimpleHTTPRequestHandler):
    """Gives files, and says nothing."""

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where the site is served."""
    folder: Path = build(tmp_path_factory.mktemp("site") / "docs", execute=False)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=[("light", 1280), ("dark", 390)])
def reader(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    """A page on a wide screen by day, and on a narrow one by night."""
    scheme, width = request.param
    context = browser.new_context(viewport={"width": width, "height": 812}, color_scheme=scheme)
    yield context.new_page()
    context.close()


@pytest.mark.web
@pytest.mark.parametrize("name", PAGES)
def test_a_page_can_be_read(name: str, reader: Page, address: str, axe: str) -> None:
    asked: list[str] = []
    reader.on("request", lambda request: asked.append(request.url))
    reader.goto(f"{address}/{name}.html", wait_until="networkidle")
    assert [url for url in asked if not url.startswith((address, "data:"))] == []
    assert reader.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls sideways"
    check(reader, axe, name)
