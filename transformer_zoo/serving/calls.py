"""Everything that is neither written nor translated: it is done between steps, one piece at a time."""

from collections import deque
from collections.abc import Callable, Generator
from types import GeneratorType
from typing import Any

from transformer_zoo.serving.requests import Request

Function = Callable[[], Any]


class Calls:
    """Functions that wait to be called, in their order; of one that gives a generator, a piece at a time, in turn."""

    def __init__(self) -> None:
        self.waiting: deque[tuple[Request[Any], Function | Generator[None, None, Any]]] = deque()

    def due(self) -> float | None:
        """In how many seconds there is something to do; None: nothing waits."""
        return 0.0 if self.waiting else None

    def advance(self) -> None:
        """One call, or a piece of one."""
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
        """All that waits has failed."""
        while self.waiting:
            self.waiting.popleft()[0].fail(error)
