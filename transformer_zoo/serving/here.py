"""What every route can use."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, TypeVar

from fastapi import Depends, Request

from transformer_zoo.config.serving import ServingSettings
from transformer_zoo.serving import requests
from transformer_zoo.serving.catalogue import Catalogue
from transformer_zoo.serving.jobs import held
from transformer_zoo.serving.keys import Keys
from transformer_zoo.serving.metrics import Metrics

T = TypeVar("T")


@dataclass(frozen=True)
class Serving:
    """The server, as routes see it."""

    catalogue: Catalogue
    settings: ServingSettings
    keys: Keys
    metrics: Metrics = field(default_factory=Metrics)
    started: int = field(default_factory=lambda: int(time.time()))

    @contextmanager
    def asked(self, model: str, begun: Iterable[requests.Request[T]]) -> Iterator[list[requests.Request[T]]]:
        """`held`, whose tokens are counted whatever happens."""
        with held(begun) as asked:
            try:
                yield asked
            finally:
                for one in asked:
                    self.metrics.count_tokens(model, one.usage.prompt_tokens, one.usage.completion_tokens)


def _serving(request: Request) -> Serving:
    found: Serving = request.app.state.serving
    return found


Here = Annotated[Serving, Depends(_serving)]
