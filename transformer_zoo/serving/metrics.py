"""Numbers for Prometheus. No label comes from a client: labels of routes are the routes that exist."""

from typing import Any

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.process_collector import ProcessCollector

from transformer_zoo.serving.engine import Engine

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100)


class Metrics:
    """The counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        of: Any = {"namespace": "transformer_zoo", "registry": self.registry}
        self._requests = Counter("requests", "Requests that were answered.", ["route", "status"], **of)
        self._seconds = Histogram("request_seconds", "Until the end of an answer.", ["route"], buckets=_SECONDS, **of)
        self._tokens = Counter("tokens", "Tokens of prompts and of answers.", ["model", "kind"], **of)
        self._gauge = Gauge("engine_requests", "Requests that a model has now.", ["model", "state"], **of)

    def count_request(self, route: str, status: int, seconds: float) -> None:
        """Count a request that is done."""
        self._requests.labels(route, status).inc()
        self._seconds.labels(route).observe(seconds)

    def count_tokens(self, model: str, prompt: int, completion: int) -> None:
        """Count the tokens of one answer."""
        self._tokens.labels(model, "prompt").inc(prompt)
        self._tokens.labels(model, "completion").inc(completion)

    def watch(self, model: str, engine: Engine) -> None:
        """Ask the engine for its numbers whenever somebody looks."""
        self._gauge.labels(model, "waiting").set_function(lambda: engine.n_waiting)
        self._gauge.labels(model, "running").set_function(lambda: engine.n_running)


router = APIRouter()


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """The text that Prometheus reads."""
    return Response(generate_latest(request.app.state.serving.metrics.registry), media_type=CONTENT_TYPE_LATEST)
