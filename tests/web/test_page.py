"""What people do on the page, in a headless Chromium: `make test-web`."""

import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from transformer_zoo.runs import translator

from .conftest import ODD, listen
from .serving import Served, serving

pytestmark = [pytest.mark.web, pytest.mark.filterwarnings("ignore:.*much longer than max_source_tokens")]

SOURCE, TARGET = "a red cat", "ein rot Katze"


def translated(page: Page, text: str = SOURCE, answer: str = TARGET) -> None:
    page.get_by_label("Text", exact=True).fill(text)
    expect(page.locator("#target")).to_have_text(answer)


def test_a_translation_comes_as_one_types(page: Page) -> None:
    page.get_by_label("Text", exact=True).press_sequentially("a red", delay=30)
    expect(page.locator("#target")).to_have_text("ein rot")
    page.get_by_label("Text", exact=True).press_sequentially(" cat", delay=30)
    expect(page.locator("#target")).to_have_text(TARGET)
    assert page.locator("#target .word").count() == 3
    assert (page.locator("#source").get_attribute("lang"), page.locator("#target").get_attribute("lang")) == (
        "en",
        "de",
    )
    page.get_by_label("Text", exact=True).fill("  ")
    expect(page.locator("#target")).to_have_text("")
    expect(page.locator("#as-read")).to_be_hidden()


def marked(page: Page) -> set[int]:
    """Which pieces of the source are marked as looked at."""
    nodes = page.locator("#source-pieces .word:not([data-amount='0'])").all()
    return {int(node.get_attribute("data-place") or -1) for node in nodes}


def aligned(page: Page, served: Served, word: str) -> set[int]:
    """Which the Python API says a word of the translation looked at, by a twentieth at least."""
    found = translator(served.runs["words"]).explain(SOURCE)
    assert found.alignment is not None
    rows = [i for i, piece in enumerate(found.pieces) if piece.text and piece.text.strip() in word]
    weights = found.alignment[rows].mean(0).tolist()
    return {i for i, weight in enumerate(weights) if weight >= 0.05 and found.source_pieces[i]}


def test_a_word_is_hovered_and_another_chosen(page: Page, served: Served) -> None:
    translated(page)
    word = page.locator("#target .word").nth(1)
    assert re.fullmatch(r"rot, \d+(\.\d)? %", word.get_attribute("aria-label") or "")
    word.hover()
    assert marked(page) == aligned(page, served, "rot")
    word.click()
    choices = page.locator("#alternatives .choice")
    expect(choices.first).to_be_focused()
    assert marked(page) == aligned(page, served, "rot")
    chosen = choices.first.locator(".head").inner_text()
    page.keyboard.press("Enter")
    expect(page.locator("#alternatives")).to_be_hidden()
    expect(page.locator("#target")).to_have_text(re.compile(f"ein {re.escape(chosen.removesuffix('…'))}"))


def test_the_keyboard_alone_goes_through_words(page: Page) -> None:
    translated(page)
    page.get_by_label("Text", exact=True).focus()
    words = page.locator("#target .word")
    for _ in range(12):
        page.keyboard.press("Tab")
        if words.first.evaluate("node => node === document.activeElement"):
            break
    page.keyboard.press("ArrowRight")
    expect(words.nth(1)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#alternatives")).to_be_visible()
    page.keyboard.press("ArrowDown")
    expect(page.locator("#alternatives .choice").nth(1)).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#alternatives")).to_be_hidden()
    expect(words.nth(1)).to_be_focused()


def test_other_translations_are_shown_and_taken(page: Page) -> None:
    translated(page)
    others = page.locator("#others-list .choice")
    expect(others).to_have_count(2)
    second = others.nth(1).locator(".head").inner_text()
    others.nth(1).click()
    expect(page.locator("#target")).to_have_text(second)
    expect(others.first.locator(".head")).to_have_text(TARGET)


def test_text_is_written_and_another_token_chosen(page: Page) -> None:
    page.get_by_role("tab", name="Write").click()
    page.get_by_text("How it writes").click()
    page.get_by_label("Temperature").fill("0")
    page.get_by_label("Tokens at most").fill("20")
    page.get_by_label("How it begins").fill("the cat")
    page.get_by_role("button", name="Write", exact=True).click()
    expect(page.locator("#written")).to_have_text(re.compile("the cat sat on the mat"))
    expect(page.locator("#write-note")).to_contain_text("length")
    expect(page.locator("#next-list .choice")).to_have_count(10)
    place = page.locator("#written .word").filter(has_text="s").first
    before = int(place.get_attribute("data-place") or 0)
    place.click()
    expect(page.locator("#next-list .choice[aria-current='true']")).to_have_count(1)
    other = page.locator("#next-list .choice:not([aria-current='true'])").first
    chosen = other.locator(".head").inner_text()
    other.click()
    expect(page.locator(f"#written [data-place='{before}']")).to_have_text(re.compile(re.escape(chosen)))
    expect(page.locator("#written .word")).to_have_count(before + 1 + 20)


def test_attention_words_and_positions_are_shown(page: Page) -> None:
    page.get_by_role("tab", name="Look").click()
    page.get_by_label("Sentence").fill(SOURCE)
    page.get_by_role("button", name="Look").click()
    cells = page.locator("#head td")
    expect(page.locator("#heads button")).to_have_count(3)  # two heads and their mean
    assert cells.count() > 9
    rows = page.locator("#head tbody tr")
    for i in range(rows.count()):
        shares = [int(text or 0) for text in rows.nth(i).locator("td").all_inner_texts()]
        assert abs(sum(shares) - 100) <= len(shares) / 2
    page.get_by_role("button", name="Head 2").click()
    expect(page.locator("#about-head")).to_contain_text("head 2")
    page.get_by_label("Which").select_option("encoder")
    expect(page.locator("#about-head")).to_contain_text("The source at itself")
    page.get_by_label("Word", exact=True).fill("red")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("#neighbours li").first).to_be_visible()
    expect(page.locator("#positions canvas").first).to_be_visible()


def test_a_lost_server_is_noticed_and_found_again(page: Page, served: Served, said: list[str]) -> None:
    translated(page)
    served.stop()
    page.get_by_label("Text", exact=True).fill("a dog")
    expect(page.locator("#banner-text")).to_contain_text("does not answer")
    served.start()
    page.get_by_role("button", name="Look now").click()
    expect(page.locator("#banner-text")).to_contain_text("is back")
    expect(page.locator("#target")).to_have_text("ein Hund")
    assert all("net::ERR_" in line for line in said)
    said.clear()


def test_what_the_server_refuses_is_said_in_its_words(page: Page, said: list[str]) -> None:
    page.get_by_role("tab", name="Look").click()
    page.get_by_role("button", name="Look").click()
    expect(page.locator("#attention-problem")).to_contain_text("no sentence")
    page.get_by_label("Word", exact=True).fill("Ж")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("#neighbours-problem")).to_contain_text("not in the vocabulary")
    assert len(said) == 1
    assert "422" in said.pop()


def test_texts_names_and_history_are_no_markup(page: Page) -> None:
    page.evaluate("entries => localStorage.setItem('transformer-zoo history', JSON.stringify(entries))", [
        {"tab": "write", "model": ODD, "text": ODD, "answer": ODD}
    ])  # fmt: skip
    page.reload()
    expect(page.locator("#history-entries li")).to_have_count(1)
    page.get_by_text("History").click()
    expect(page.locator("#history-entries li")).to_contain_text(ODD)
    page.get_by_label("Text", exact=True).fill(ODD)
    expect(page.locator("#target .word").first).to_be_visible()
    page.get_by_role("tab", name="Write").click()
    assert ODD in page.locator("#model").inner_text()
    page.get_by_label("How it begins").fill("the cat")
    page.get_by_role("button", name="Write", exact=True).click()
    expect(page.locator("#write-note")).not_to_have_text("")
    page.locator("#history-entries button").last.click()
    expect(page.get_by_label("How it begins")).to_have_value(ODD)
    assert page.locator("main script, main b").count() == 0
    page.get_by_role("button", name="Forget").click()
    expect(page.locator("#history")).to_be_hidden()
    assert page.evaluate("localStorage.getItem('transformer-zoo history')") == "[]"


def test_nothing_inline_or_foreign_runs(page: Page, said: list[str]) -> None:
    page.evaluate("""() => {
      const script = document.createElement("script");
      script.append("document.title = 'inline'");
      document.body.append(script);
    }""")
    assert page.title() == "transformer-zoo"
    assert said
    said.clear()
    with pytest.raises(Exception, match="TrustedHTML"):
        page.evaluate("document.body.innerHTML = '<b>x</b>'")
    said.clear()


def test_nothing_is_wider_than_the_screen(page: Page) -> None:
    translated(page)
    for name in ("Translate", "Write", "Look"):
        page.get_by_role("tab", name=name).click()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(page: Page, scheme: str, axe: str) -> None:
    page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
    translated(page)
    check(page, axe, "translate")
    page.locator("#target .word").first.click()
    expect(page.locator("#alternatives .choice").first).to_be_focused()
    check(page, axe, "alternatives")
    page.keyboard.press("Escape")
    page.get_by_role("tab", name="Write").click()
    page.get_by_text("How it writes").click()
    page.get_by_label("How it begins").fill("the cat")
    page.get_by_role("button", name="Write", exact=True).click()
    expect(page.locator("#next-list .choice")).to_have_count(10)
    check(page, axe, "write")
    page.get_by_role("tab", name="Look").click()
    page.get_by_label("Sentence").fill(SOURCE)
    page.get_by_role("button", name="Look").click()
    expect(page.locator("#head td").first).to_be_visible()
    page.get_by_label("Word", exact=True).fill("red")
    page.get_by_role("button", name="Find").click()
    expect(page.locator("#neighbours li").first).to_be_visible()
    check(page, axe, "look")


def check(page: Page, axe: str, where: str) -> None:
    """Runs axe in the page; nothing serious or critical."""
    page.evaluate(axe)
    found = page.evaluate("axe.run().then(found => found.violations)")
    serious = [
        f"{where}: {one['id']}: {node['html'][:200]} {node['failureSummary']}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
    assert not serious, "\n".join(serious)


def test_tabs_are_those_of_the_models(browser: Browser, served: Served, said: list[str]) -> None:
    page = browser.new_page()
    listen(page, said)
    with serving({"words": served.runs["words"]}) as other:
        page.goto(f"{other.address}#write")
        expect(page.get_by_role("tab", name="Translate")).to_have_attribute("aria-selected", "true")
        expect(page.get_by_role("tab", name="Write")).to_be_hidden()
    page.close()


def test_a_key_is_asked_for_until_it_is_right(
    browser: Browser, served: Served, said: list[str], tmp_path: Path
) -> None:
    (tmp_path / "keys").write_text("a key of many letters\n", "utf-8")
    page = browser.new_page()
    listen(page, said)
    with serving(served.runs, tmp_path / "keys") as guarded:
        page.goto(guarded.address)
        page.get_by_label("Key", exact=True).fill("another key of many letters")
        page.keyboard.press("Enter")
        expect(page.locator("#key-problem")).to_contain_text("does not know this key")
        page.get_by_label("Key", exact=True).fill("a key of many letters")
        page.keyboard.press("Enter")
        translated(page)
    assert page.evaluate("Object.keys(sessionStorage).length") == 0
    assert "a key" not in page.evaluate("JSON.stringify(localStorage)")
    page.close()
    assert all("401" in line for line in said)
    said.clear()


def test_a_text_can_be_put_together_token_by_token(page: Page) -> None:
    page.get_by_role("tab", name="Write").click()
    page.get_by_text("How it writes").click()
    page.get_by_label("Tokens at most").fill("5")
    page.get_by_label("How it begins").fill("the cat")
    page.get_by_role("button", name="Write", exact=True).click()
    expect(page.locator("#write-note")).not_to_have_text("")
    page.get_by_label("write on after a choice").uncheck()
    count = page.locator("#written .word").count()
    page.locator("#next-list .choice").first.click()
    expect(page.locator("#written .word")).to_have_count(count + 1)
