"""One browser, one server, and a page that says nothing on its console."""

from collections.abc import Iterator
from importlib import resources

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

from transformer_zoo.errors import UserError
from transformer_zoo.runs import load_run

from .browser import chromium
from .serving import Served, serving, trained

ODD = "<script>alert('x')</script> & <b>"


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        path = chromium()
    except UserError as error:
        pytest.exit(str(error), returncode=2)
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield made
        made.close()


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A run that translates six words, and one that writes a verse and has an unfriendly name."""
    words = trained(tmp_path_factory.mktemp("words"), "translation", max_updates=150)
    verse = trained(tmp_path_factory.mktemp("verse"), "gpt", max_updates=120)
    with serving({"words": load_run(words), f"verse {ODD}": load_run(verse)}) as made:
        yield made


@pytest.fixture(params=[1280, 375])
def width(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def page(browser: Browser, served: Served, width: int, said: list[str]) -> Iterator[Page]:
    """The page, opened by somebody who never saw it, on a wide and on a narrow screen."""
    context = browser.new_context(viewport={"width": width, "height": 812}, has_touch=width < 500)
    context.set_default_timeout(10_000)
    made = context.new_page()
    listen(made, said)
    made.goto(served.address)
    yield made
    context.close()


def listen(page: Page, said: list[str]) -> None:
    """Collects what goes wrong on a page."""

    def hear(message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            said.append(f"{message.text} ({message.location['url']})")

    page.on("console", hear)
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("dialog", lambda dialog: said.append(f"a dialog: {dialog.message}"))


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What the page put on its console; nothing, unless the test takes it out."""
    found: list[str] = []
    yield found
    assert found == []


@pytest.fixture(scope="session")
def axe() -> str:
    """The script that looks for what keeps people out."""
    package = resources.files("axe_core_python")
    return (package / "axe.min.js").read_text("utf-8")
