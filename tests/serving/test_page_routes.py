"""What the page is given is what the Python API gives, and what is wrong is refused in one line."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.serving.served import runs, served
from transformer_zoo.config.serving import ServingSettings
from transformer_zoo.errors import UserError
from transformer_zoo.runs import Translator, Writer, attention_maps, neighbours, positions_table
from transformer_zoo.serving.page import routes
from transformer_zoo.serving.page.assets import FOLDER
from transformer_zoo.serving.refusals import Refusal
from transformer_zoo.serving.requests import Request

KEY = "a key of sixteen letters"


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with served(runs()) as (url, _), httpx.Client(base_url=url) as client:
        yield client


def lines(answer: httpx.Response) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.text.splitlines()]


def test_models_say_what_they_do(client: httpx.Client) -> None:
    does = {model["name"]: model["does"] for model in client.get("/page/models").json()["models"]}
    assert does["letters"] == ["write", "look"]
    assert does["de-en"] == ["translate", "look"]
    assert does["vectors"] == ["look"]


def test_a_translator_says_how_it_searches_and_between_which_languages(client: httpx.Client) -> None:
    [told] = [model for model in client.get("/page/models").json()["models"] if model["name"] == "en-fr"]
    assert told["beam"] == 2
    assert told["source"] == {"code": "eng_Latn", "name": "English", "tag": "en"}
    assert (told["target"]["name"], told["sources"], told["targets"]) == ("French", [], [])


def test_translations_are_explained_part_by_part(client: httpx.Client) -> None:
    asked = {"model": "de-en", "text": "ja\n\n nein", "n_best": 2, "beam": 3}
    one, two = lines(client.post("/page/translate", json=asked))
    assert (one["before"], one["text"], two["before"], two["text"]) == ("", "ja", "\n\n ", "nein")
    wanted = Translator(runs()["de-en"]).explain("ja", k=6, n_best=2, beam=3)
    assert one["source"] == wanted[0].source_pieces
    for got, explained in zip(one["best"], wanted, strict=True):
        assert [(piece["text"], piece["id"]) for piece in got["pieces"]] == [(p.text, p.id) for p in explained.pieces]
        assert [p["probability"] for p in got["pieces"]] == pytest.approx([p.probability for p in explained.pieces])
        for row, weights in zip(got["alignment"], explained.alignment, strict=True):
            assert row == pytest.approx(weights.tolist(), abs=1e-4)
    likeliest = one["best"][0]["pieces"][0]["alternatives"]
    assert [piece["id"] for piece in likeliest] == [p.id for p in wanted[0].pieces[0].alternatives]


def test_another_piece_is_chosen(client: httpx.Client) -> None:
    [first] = lines(client.post("/page/translate", json={"model": "de-en", "text": "ja"}))
    before, pieces = [first["best"][0]["pieces"][0]["id"]], first["best"][0]["pieces"]
    other = next(one["id"] for one in pieces[1]["alternatives"] if one["id"] != pieces[1]["id"] and one["text"])
    asked = {"model": "de-en", "text": "ja", "prefix": [*before, other]}
    [second] = lines(client.post("/page/translate", json=asked))
    assert [piece["id"] for piece in second["best"][0]["pieces"][:2]] == [*before, other]


def test_a_text_is_written_looked_at_and_gone_on_from(client: httpx.Client) -> None:
    asked = {"model": "letters", "text": "Once", "max_new_tokens": 9, "seed": 4, "temperature": 0.7}
    given, *written = lines(client.post("/page/write", json=asked))
    writer = Writer(runs()["letters"], temperature=0.7, seed=4)
    assert "".join(piece["text"] for piece in given["given"]) == "Once"
    text = writer("Once", max_new_tokens=9)
    assert "".join(event["text"] for event in written) == text
    ids = [piece["id"] for piece in given["given"]] + [token for event in written for token in event["tokens"]]
    assert written[-1]["end"] in ("length", "eos")
    again = lines(client.post("/page/write", json={**asked, "text": "", "ids": ids[:4]}))
    assert again == written
    shown = client.post("/page/probabilities", json={"model": "letters", "ids": ids}).json()["probabilities"]
    assert shown[0] is None
    assert shown[1:] == pytest.approx([piece.probability for piece in writer.explain(ids).pieces][1:])
    likeliest = client.post("/page/next", json={"model": "letters", "ids": ids[:4]}).json()["tokens"]
    assert [(one["text"], one["id"]) for one in likeliest] == [(a.text, a.id) for a in writer.next_tokens(ids[:4])]


def test_an_answer_is_no_longer_than_the_context_has_room(client: httpx.Client) -> None:
    *_, last = lines(client.post("/page/write", json={"model": "letters", "text": "a" * 250, "max_new_tokens": 99}))
    assert last["end"] in ("length", "eos")


@pytest.mark.parametrize("kind", [None, "encoder", "decoder"])
def test_attention_words_and_positions(client: httpx.Client, kind: str | None) -> None:
    run = runs()["de-en"]
    got = client.post("/page/attention", json={"model": "de-en", "text": "ja", "kind": kind, "layer": 0}).json()
    maps: Any = attention_maps(run, "ja")
    assert (got["rows"], got["columns"]) == maps.pieces(got["kind"])
    assert got["kind"] == kind or "cross"
    for head, wanted in zip(got["heads"], maps.weights[got["kind"]][0].tolist(), strict=True):
        for row, weights in zip(head, wanted, strict=True):
            assert row == pytest.approx(weights, abs=1e-4)
    asked = {"model": "de-en", "word": "j", "plus": ["a"], "minus": ["n"]}
    near = client.post("/page/neighbours", json=asked).json()["neighbours"]
    wanted = neighbours(run, "j", plus=["a"], minus=["n"])
    assert [word for word, _ in near] == [word for word, _ in wanted]
    assert [share for _, share in near] == pytest.approx([share for _, share in wanted], abs=1e-4)
    tables = client.post("/page/positions", json={"model": "de-en"}).json()["tables"]
    assert [table["title"] for table in tables] == [table.title for table in positions_table(run.model)]
    assert len(tables[0]["values"]) == 64


WRONG: dict[str, tuple[str, dict[str, Any], int, str]] = {
    "no such model": ("translate", {"model": "x", "text": "ja"}, 404, "there is none of this name"),
    "another kind": ("translate", {"model": "letters", "text": "ja"}, 400, "where a translation run is needed"),
    "no translator writes": ("write", {"model": "de-en", "text": "ja"}, 400, "where a decoder-only run is needed"),
    "blank": ("translate", {"model": "de-en", "text": " \n"}, 422, "the text is blank"),
    "a prefix of two lines": ("translate", {"model": "de-en", "text": "a\nb", "prefix": [9]}, 422, "give one line"),
    "a prefix of nothing": ("translate", {"model": "de-en", "text": "a", "prefix": [10**9]}, 422, "outside the vocab"),
    "a language": (
        "translate",
        {"model": "de-en", "text": "a", "target_lang": "xx"},
        422,
        "has no languages to choose",
    ),
    "too wide": ("translate", {"model": "de-en", "text": "a", "beam": 999}, 400, "beam: "),
    "a field": ("translate", {"model": "de-en", "text": "a", "bem": 9}, 400, "bem: no such field; did you mean beam"),
    "too hot": ("write", {"model": "letters", "text": "a", "temperature": -1}, 400, "temperature is -1"),
    "too many": ("write", {"model": "letters", "text": "a", "max_new_tokens": 10**6}, 422, "writes at most"),
    "too long": ("write", {"model": "letters", "text": "a" * 999}, 422, "more than the model takes (256)"),
    "ids of nothing": ("write", {"model": "letters", "ids": [10**9]}, 422, "outside the vocabulary"),
    "probabilities of nothing": ("probabilities", {"model": "letters", "ids": [10**9]}, 422, "outside the vocabulary"),
    "probabilities of none": ("probabilities", {"model": "letters", "ids": []}, 422, "is empty"),
    "next of nothing": ("next", {"model": "letters", "ids": [10**9]}, 422, "outside the vocabulary"),
    "a long sentence": ("attention", {"model": "letters", "text": "a" * 200}, 422, "more than 128 pieces"),
    "a longer sentence": ("attention", {"model": "letters", "text": "a" * 999}, 422, "the model takes 256"),
    "no such attention": ("attention", {"model": "letters", "text": "a", "kind": "cross"}, 422, "no cross attention"),
    "no attention at all": ("attention", {"model": "letters", "text": "a", "kind": "x"}, 400, "kind: Input should be"),
    "a target": ("attention", {"model": "letters", "text": "a", "target": "b"}, 422, "a target is for a translation"),
    "positions of none": ("positions", {}, 400, "model: Field required"),
    "positions of a stranger": ("positions", {"model": "<script>"}, 404, "there is none of this name"),
    "a long name": ("positions", {"model": "x" * 400}, 400, "model: String should have at most 300"),
    "no word": ("neighbours", {"model": "letters", "word": ""}, 422, "a word is empty"),
}


@pytest.mark.parametrize("name", WRONG)
def test_mistakes_are_one_line(client: httpx.Client, name: str) -> None:
    path, asked, status, reason = WRONG[name]
    answer = client.post(f"/page/{path}", json=asked)
    assert (answer.status_code, reason in answer.json()["error"]) == (status, True), answer.text
    assert "\n" not in answer.json()["error"]


def test_what_goes_wrong_in_the_middle_is_the_last_line(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    explained = routes._explained

    def failing(served: Any, part: str, asked: Any) -> Any:
        if part == "nein":
            raise UserError("this one cannot be said")
        return explained(served, part, asked)

    monkeypatch.setattr(routes, "_explained", failing)
    first, last = lines(client.post("/page/translate", json={"model": "de-en", "text": "ja\nnein\nja"}))
    assert first["text"] == "ja"
    assert last == {"error": "this one cannot be said"}


def test_what_takes_too_long_is_said() -> None:
    here: Any = SimpleNamespace(settings=ServingSettings(max_seconds=0.01))
    engine: Any = SimpleNamespace(call=lambda function: Request[None]())  # which nobody answers
    with pytest.raises(Refusal, match=r"this takes more than 0\.01 s") as refused:
        asyncio.run(routes._called(here, engine, lambda: None))
    assert refused.value.status == 503


def test_the_page_is_open_and_what_it_asks_needs_a_key(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"{KEY}\n", "utf-8")
    with served(runs(), ServingSettings(keys=tmp_path / "keys")) as (url, _):
        assert httpx.get(url).status_code == 200
        assert httpx.get(f"{url}/page/models").status_code == 401
        assert httpx.post(f"{url}/page/translate", json={"model": "de-en", "text": "ja"}).status_code == 401
        assert httpx.get(f"{url}/page/models", headers={"Authorization": f"Bearer {KEY}"}).status_code == 200


def test_files_are_served_as_they_lie_there_and_no_others(client: httpx.Client) -> None:
    page = client.get("/")
    assert page.content == (FOLDER / "index.html").read_bytes()
    assert "script-src 'self'" in page.headers["content-security-policy"]
    named = re.findall(r'(?:href|src)="([^"#]+)"', page.text)
    assert {f"static/{path.name}" for path in FOLDER.iterdir()} >= set(named)
    for path in FOLDER.iterdir():
        assert client.get(f"/static/{path.name}").content == path.read_bytes()
    for other in ("routes.py", "../routes.py", "%2e%2e/routes.py", "..%2froutes.py", "x.js", ""):
        assert client.get(f"/static/{other}").status_code == 404


def test_nothing_on_the_page_is_inline_or_elsewhere() -> None:
    """A policy would stop it; nobody should write it."""
    for path in FOLDER.iterdir():
        text = path.read_text("utf-8")
        addresses = set(re.findall(r"(?:https?:)?//[\w.-]+\.\w+", text)) - {"http://www.w3.org"}
        assert addresses == set(), path.name
        for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", ' style="'):
            assert forbidden not in text, path.name
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=", (FOLDER / "index.html").read_text("utf-8"))
