"""Answers for many people at once: an engine that batches their requests.
>>> from transformer_zoo.runs import TextRun
>>> from transformer_zoo.tokenizers import ByteTokenizer
>>> gpt, letters = tz.create_model("gpt-nano", vocab_size=257).eval(), ByteTokenizer()
>>> writer = Engine(TextRun(gpt, letters, {}))
"""

from transformer_zoo.serving.engine import Engine
from transformer_zoo.serving.requests import Closed, Event, QueueFull, Request, StepFailed, Usage
from transformer_zoo.serving.writing import Written

__all__ = ["Closed", "Engine", "Event", "QueueFull", "Request", "StepFailed", "Usage", "Written"]
