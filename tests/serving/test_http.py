"""The server as its clients see it: the official ones of OpenAI and LibreTranslate, and plain HTTP."""

import base64
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError

import httpx
import numpy as np
import openai
import pytest
from libretranslatepy import LibreTranslateAPI

from tests import hub
from tests.serving.served import runs, served
from transformer_zoo.config import Sampling
from transformer_zoo.inference import embed, score, translate_n_best, write
from transformer_zoo.runs import TextRun, load_run, translator
from transformer_zoo.runs.translating import as_tested


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with served(runs()) as (url, _):
        yield url


@pytest.fixture(scope="module")
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
        yield client


def written(run: TextRun, prompt: str, sampling: Sampling, seed: int, most: int) -> str:
    """What the command writes."""
    pieces = write(run.model, run.tokenizer, [prompt], sampling, max_new_tokens=most, seed=seed)
    return "".join(piece.text for piece in pieces)


def test_models(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == list(runs())
    assert client.models.retrieve("de-en").owned_by == "transformer_zoo"
    with pytest.raises(openai.NotFoundError, match="there are letters, talker"):
        client.models.retrieve("gpt-5")


@pytest.mark.parametrize("temperature", [0, 0.8])
def test_a_completion_is_what_the_command_writes(client: openai.OpenAI, temperature: float) -> None:
    said = client.completions.create(
        model="letters", prompt=["Once", "To be"], n=2, temperature=temperature, max_tokens=12, seed=5
    )
    run, how = runs()["letters"], Sampling(temperature=temperature)
    wanted = [written(run, prompt, how, 5 + i, 12) for i, prompt in enumerate(["Once", "Once", "To be", "To be"])]
    assert [choice.text for choice in said.choices] == wanted
    assert [choice.index for choice in said.choices] == [0, 1, 2, 3]
    assert {choice.finish_reason for choice in said.choices} <= {"length", "stop"}
    assert said.usage.prompt_tokens == 9
    assert said.usage.total_tokens == 9 + said.usage.completion_tokens


def test_a_stream_is_the_same_text(client: openai.OpenAI) -> None:
    asked = {"model": "letters", "prompt": "Once", "n": 2, "max_tokens": 20, "seed": 5, "top_p": 0.9}
    whole = client.completions.create(**asked)
    texts, ends, usage = ["", ""], [None, None], None
    for chunk in client.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            texts[choice.index] += choice.text
            ends[choice.index] = choice.finish_reason or ends[choice.index]
    assert texts == [choice.text for choice in whole.choices]
    assert ends == [choice.finish_reason for choice in whole.choices]
    assert usage == whole.usage


def test_ids_are_a_prompt_and_a_stop_string_is_not_written(client: openai.OpenAI) -> None:
    asked = {"model": "letters", "max_tokens": 30, "seed": 3}
    text = client.completions.create(prompt=[79, 110, 99, 101], **asked)
    assert text.choices[0].text == client.completions.create(prompt="Once", **asked).choices[0].text
    stop = text.choices[0].text[7:9]
    cut = client.completions.create(prompt="Once", stop=[stop], **asked).choices[0]
    assert (cut.text, cut.finish_reason) == (text.choices[0].text.partition(stop)[0], "stop")


def test_a_conversation_follows_the_models_template(client: openai.OpenAI) -> None:
    turns = [{"role": "system", "content": "Sing."}, {"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
    asked = {"model": "talker", "messages": turns, "max_completion_tokens": 9, "temperature": 0, "seed": 1}
    said = client.chat.completions.create(**asked)
    prompt = "<system>Sing.\n<user>Hi\n<assistant>"
    assert said.choices[0].message.content == written(runs()["talker"], prompt, Sampling(temperature=0), 1, 9)
    assert said.choices[0].message.role == "assistant"
    assert said.usage.prompt_tokens == len(prompt)
    deltas = [chunk.choices[0].delta for chunk in client.chat.completions.create(**asked, stream=True)]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content for delta in deltas) == said.choices[0].message.content


def test_what_the_template_refuses_is_said(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="no such role"):
        client.chat.completions.create(model="talker", messages=[{"role": "tool", "content": "x"}])
    with pytest.raises(openai.BadRequestError, match="not trained to chat"):
        client.chat.completions.create(model="letters", messages=[{"role": "user", "content": "x"}])


@pytest.mark.parametrize("form", ["float", "base64"])
def test_embeddings(client: openai.OpenAI, form: str) -> None:
    texts, run = ["to be", "or not to be"], runs()["vectors"]
    said = client.embeddings.create(model="vectors", input=texts, encoding_format=form)
    got = [one.embedding for one in said.data]
    if form == "base64":
        got = [np.frombuffer(base64.b64decode(one), "<f4") for one in got]
    np.testing.assert_allclose(got, embed(run.model, run.tokenizer, texts).numpy(), rtol=1e-4, atol=1e-6)
    assert said.usage.prompt_tokens == 17
    assert len(client.embeddings.create(model="vectors", input="x").data[0].embedding) == 128


def test_translations_by_libretranslates_client(url: str) -> None:
    client, run = LibreTranslateAPI(url), runs()["de-en"]
    [best] = translate_n_best(run.model, run.tokenizer, ["ja"], as_tested(run).search, scored=False)
    assert client.translate("ja", "de", "en") == best[0].text
    assert client.translate("ja\n\nja", "deu_Latn", "eng") == f"{best[0].text}\n\n{best[0].text}"
    assert client.languages() == [
        {"code": "de", "name": "German", "targets": ["en"]},
        {"code": "en", "name": "English", "targets": ["fr"]},
    ]
    with pytest.raises(HTTPError, match="501"):
        client.detect("ja")


def test_several_texts_have_alternatives(url: str) -> None:
    asked = {"q": ["ja", "nein\nja"], "source": "auto", "target": "en", "alternatives": 2}
    said = httpx.post(f"{url}/translate", json=asked).json()
    run = runs()["de-en"]
    [best] = translate_n_best(run.model, run.tokenizer, ["ja"], replace(as_tested(run).search, n_best=3), scored=False)
    assert [said["translatedText"][0], *said["alternatives"][0]] == [one.text for one in best]
    assert len(said["alternatives"][1]) == 2
    assert [text.count("\n") for text in said["alternatives"][1]] == [1, 1]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target": "fr"}, "no model here does that"),
        ({"source": "fr"}, "no model here does that"),
        ({"model": "en-fr"}, "no model here does that"),
        ({"model": "letters"}, "letters is a decoder-only run, where a translation run is needed"),
        ({"format": "html"}, "format: Input should be 'text'"),
        ({"alternatives": 10}, "alternatives: Input should be less than or equal to 9"),
    ],
)
def test_what_cannot_be_translated(url: str, changes: dict[str, object], said: str) -> None:
    answer = httpx.post(f"{url}/translate", json={"q": "ja", "source": "de", "target": "en", **changes})
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_scores(url: str) -> None:
    run = runs()["de-en"]
    said = httpx.post(f"{url}/score", json={"source": ["ja"], "target": ["yes"], "model": "de-en"}).json()
    [wanted] = score(run.model, run.tokenizer, ["ja"], ["yes"])
    assert said["lines"][0]["token_log_probs"] == pytest.approx(wanted.token_log_probs, abs=1e-4)
    assert said["tokens"] == 4


def test_health_and_metrics(url: str) -> None:
    assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}
    found = httpx.get(f"{url}/metrics").text
    assert 'transformer_zoo_requests_total{route="/healthz",status="200"}' in found
    assert 'transformer_zoo_engine_requests{model="letters",state="running"} 0.0' in found
    assert 'route="-"' not in found


def test_a_server_whose_engine_has_ended_is_not_healthy() -> None:
    with served({"letters": runs()["letters"]}) as (url, engines):
        assert httpx.get(f"{url}/healthz").status_code == 200
        engines["letters"].close()
        answer = httpx.get(f"{url}/healthz")
    assert answer.status_code == 503
    assert answer.json() == {"error": "nothing computes for letters any more: start the server again"}


def test_a_model_of_many_languages_is_asked_in_any_spelling(tmp_path: Path) -> None:
    hub.nllb(tmp_path / "nllb")
    run = load_run(tmp_path / "nllb")
    wanted = translator(run, source_lang="eng_Latn", target_lang="deu_Latn")("a red cat")
    with served({"nllb": run}) as (url, _):
        for source, target in (("en", "de"), ("eng_Latn", "deu"), ("English", "German")):
            answer = httpx.post(f"{url}/translate", json={"q": "a red cat", "source": source, "target": target})
            assert answer.json() == {"translatedText": wanted}
        codes = {one["code"]: one["name"] for one in httpx.get(f"{url}/languages").json()}
        assert (codes["de"], codes["zh"], codes["zh-Hant"]) == ("German", "Chinese", "Chinese (Traditional)")
        for changes in ({"source": "auto"}, {"target": "tlh"}):
            asked = {"q": "a red cat", "source": "en", "target": "de", **changes}
            assert httpx.post(f"{url}/translate", json=asked).status_code == 400
