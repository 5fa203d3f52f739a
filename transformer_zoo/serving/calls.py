"""All work besides writing and translating: it is done between steps, one piece at a time."""

from collections import deque
from collections.abc import Callable, Generator
from types import GeneratorType
from typing import Any

from transformer_zoo.serving.requests import Request

Function = Callable[[], Any]


class Calls:
    """Functions that wait to be called, in order. If one returns a generator, its pieces alternate with other work."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Request[Any], Function | Generator[None, None, Any]]] = deque()

    def due(self) -> float | None:
        """Seconds until there is something to do; None: nothing is waiting."""
        return 0.0 if self.waiting else None

    def advance(self) -> None:
        """Do one call, or a piece of one."""
        if not self.waiting:
            return
        request, work = self.waiting.popleft()
        if request.done():
            return
        request.is_started = True
        try:
            result = work() if callable(work) else next(work)
        except StopIteration as end:
            request.finish(end.value, "done")
        except Exception as error:
            request.fail(error)
        else:
            rest = work if isinstance(work, GeneratorType) else result
            if isinstance(rest, GeneratorType):
                self.waiting.append((request, rest))
            else:
                request.finish(result, "done")

    def fail(self, error: Exception) -> None:
        """All waiting calls have failed."""
        while self.waiting:
            self.waiting.popleft()[0].fail(error)
