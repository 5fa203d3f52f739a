"""Lines that are translated side by side: those that come within some milliseconds, sorted by their length."""

import time
from dataclasses import dataclass, field

from transformer_zoo.config import BeamSearch
from transformer_zoo.inference import Translation, translate_n_best
from transformer_zoo.runs import Run
from transformer_zoo.serving.requests import Request


@dataclass
class Lines:
    """Lines that are translated."""

    request: Request[list[list[Translation]]]
    run: Run
    texts: list[str]
    how: BeamSearch
    prefix: str
    scored: bool
    arrived: float = field(default_factory=time.monotonic)


class Translating:
    """All lines that wait to be translated."""

    def __init__(self, most: int, gather: float) -> None:
        self.most, self.gather = most, gather
        self.waiting: list[Lines] = []

    def due(self) -> float | None:
        """In how many seconds there is something to do; None: nothing waits."""
        if not self.waiting:
            return None
        return max(0.0, self.waiting[0].arrived + self.gather - time.monotonic())

    def advance(self) -> None:
        """Translate those that may be translated together."""
        self.waiting = [one for one in self.waiting if not one.request.done()]
        if self.due() != 0.0:
            return
        first = self.waiting[0]
        like = [one for one in self.waiting if _alike(one, first)][: self.most]
        self.waiting = [one for one in self.waiting if all(one is not other for other in like)]
        for one in like:
            one.request.is_started = True
        texts = [text for one in like for text in one.texts]
        try:
            found = iter(
                list(
                    translate_n_best(
                        first.run.model,
                        first.run.tokenizer,
                        texts,
                        first.how,
                        scored=first.scored,
                        prefix=first.prefix,
                        max_source_tokens=first.run.max_source_tokens,
                        language=first.run.source_language,
                    )
                )
            )
        except Exception as error:
            for one in like:
                one.request.fail(error)
            return
        for one in like:
            one.request.finish([next(found) for _ in one.texts], "done")

    def fail(self, error: Exception) -> None:
        """All that is translated has failed."""


def _alike(one: Lines, other: Lines) -> bool:
    return (one.run is other.run, one.how, one.prefix, one.scored) == (True, other.how, other.prefix, other.scored)
