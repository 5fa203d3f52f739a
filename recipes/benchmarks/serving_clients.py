"""Clients of a server: many at the same time for some seconds; and for hours, some of which break off or send
garbage."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import httpx
import numpy as np

_PATIENCE = 600.0  # seconds for one answer
GARBAGE = (
    b"", b"{", b"[" * 9000, b"\xff\xfe", b'{"q": NaN}', b'{"prompt": 5, "n": -1}', b'{"q": ["a", 1], "target": []}',
    b'{"model": "nowhere", "prompt": "a", "q": "a", "source": "xx", "target": "xx"}', b'{"max_tokens": 1e400}',
    b'{"prompt": [99999999]}', b'{"' + b"x" * 50_000 + b'": 1}', b"x" * 2_000_000,
)  # fmt: skip


@dataclass(frozen=True)
class Question:
    """A client's request to one model."""

    model: str
    text: str
    path: str
    body: dict[str, Any] = field(compare=False)

    async def ask(self, client: httpx.AsyncClient) -> httpx.Response:
        """The server's answer."""
        return await client.post(self.path, json=self.body)

    def answer(self, response: httpx.Response) -> str:
        """The text of a right answer."""
        said = response.json()
        return str(said["translatedText"] if "translatedText" in said else said["choices"][0]["text"])


@dataclass(frozen=True)
class Load:
    """The result of many clients: answers per second, and seconds for one, median and 95th percentile."""

    clients: int
    answers: int
    per_second: float
    p50: float
    p95: float


def measure(url: str, questions: Sequence[Question], clients: int, seconds: float) -> tuple[Load, dict[Question, str]]:
    """Clients that ask one question after another, for so many seconds; and the answers."""
    return asyncio.run(_measure(url, cycle(questions), clients, seconds))


async def _measure(
    url: str, questions: Iterator[Question], clients: int, seconds: float
) -> tuple[Load, dict[Question, str]]:
    waited, answers = list[float](), dict[Question, str]()

    async def client_asks(client: httpx.AsyncClient, end: float) -> None:
        while (start := time.perf_counter()) < end:
            question = next(questions)
            response = await question.ask(client)
            response.raise_for_status()
            waited.append(time.perf_counter() - start)
            answers[question] = question.answer(response)

    async with _client(url) as client:
        await asyncio.gather(*(next(questions).ask(client) for _ in range(clients)))  # to warm up
        start = time.perf_counter()
        await asyncio.gather(*(client_asks(client, start + seconds) for _ in range(clients)))
        rate = len(waited) / (time.perf_counter() - start)
    p50, p95 = np.quantile(waited, [0.5, 0.95]).tolist()
    return Load(clients, len(waited), rate, p50, p95), answers


def _client(url: str) -> httpx.AsyncClient:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    return httpx.AsyncClient(base_url=url, timeout=_PATIENCE, limits=limits)


@dataclass
class Soaked:
    """The result of a long time: statuses of answers; answers that differ from the expected ones; resident bytes."""

    statuses: Counter[int] = field(default_factory=Counter)
    broken_off: int = 0
    answers: int = 0
    others: list[tuple[Question, str]] = field(default_factory=list)
    resident: list[tuple[float, int]] = field(default_factory=list)

    def growth(self, first: float) -> float:
        """Resident size at the end by that after so many seconds."""
        before = next(size for seconds, size in self.resident if seconds >= first)
        return self.resident[-1][1] / before


def soak(url: str, process: int, expected: dict[Question, str], clients: int, seconds: float) -> Soaked:
    """Clients that ask at random for so many seconds: a tenth of their requests break off, a tenth are garbage."""
    return asyncio.run(_soak(url, process, expected, clients, seconds))


async def _soak(url: str, process: int, expected: dict[Question, str], clients: int, seconds: float) -> Soaked:
    found, start = Soaked(), time.monotonic()

    def passed() -> float:
        return time.monotonic() - start

    async def client_asks(client: httpx.AsyncClient, number: int) -> None:
        draw, questions = random.Random(number), list(expected)
        while passed() < seconds:
            await _one(client, draw, draw.choice(questions), expected, found)

    async def watch() -> None:
        while True:
            found.resident.append((passed(), resident_bytes(process)))
            await asyncio.sleep(min(1.0, seconds / 20))

    async with _client(url) as client:
        watching = asyncio.create_task(watch())
        await asyncio.gather(*(client_asks(client, number) for number in range(clients)))
        watching.cancel()
    found.resident.append((passed(), resident_bytes(process)))
    return found


async def _one(
    client: httpx.AsyncClient, draw: random.Random, question: Question, expected: dict[Question, str], found: Soaked
) -> None:
    """One request of any of the three kinds."""
    kind = draw.random()
    if kind < 0.1:
        found.broken_off += 1
        asking = asyncio.ensure_future(question.ask(client))
        await asyncio.wait({asking}, timeout=draw.uniform(0, 0.3))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    elif kind < 0.2:
        headers = {"Content-Type": draw.choice(["application/json", "application/x-www-form-urlencoded", "text/plain"])}
        response = await client.post(question.path, content=draw.choice(GARBAGE), headers=headers)
        found.statuses[response.status_code] += 1
    else:
        response = await question.ask(client)
        found.statuses[response.status_code] += 1
        if response.status_code == 200:
            found.answers += 1
            if (said := question.answer(response)) != expected[question]:
                found.others.append((question, said))


def resident_bytes(process: int) -> int:
    """What a process has in memory."""
    lines = Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmRSS:"))
