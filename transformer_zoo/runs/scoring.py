"""`tz.scorer`: how likely a model finds texts or translations."""

from typing import Any, cast, overload

import torch

from transformer_zoo.errors import UserError
from transformer_zoo.inference import TargetScore, first_token, score, score_ids
from transformer_zoo.runs.doors import Source, Texts, checked, dtype_of, each, opened
from transformer_zoo.runs.huggingface import translating
from transformer_zoo.runs.load import Run, TextRun


def scorer(
    source: Source,
    *,
    device: str | None = None,
    dtype: str = "float32",
    batch_tokens: int = 8192,
    source_lang: str | None = None,
    target_lang: str | None = None,
) -> "Scorer":
    """A function that says how likely a model finds translations of sources, texts, or continuations of prompts.
    >>> [found] = scorer("runs/de-en")(["ja"], ["yes"])
    >>> found.log_prob == scorer("runs/de-en")("ja", "yes").log_prob < 0
    True

    Args:
        source: a run, its folder, a folder in Hugging Face's format, or the name of either on the hub.
        device: cpu, cuda, cuda:N or mps; None: the device of a given run, otherwise the GPU if there is one.
        dtype: of the matrix products: float32, bfloat16 or float16.
        batch_tokens: number of tokens of a batch on either side, at most, padding included.
        source_lang, target_lang: for a multilingual model, in its own codes; None: as the run says.

    Raises:
        UserError: there is no such model, or it does not write text.
    """
    wanted = dtype_of(dtype)
    run = cast(Run | TextRun, opened(source, device, "tz.scorer", Run, TextRun))
    if source_lang or target_lang:
        run = translating(run, source_lang, target_lang, of=str(source))
    return Scorer(run, batch_tokens=batch_tokens, dtype=wanted)


class Scorer:
    """A model that is ready to score; made by `scorer`.
    >>> [one, other] = Scorer(load_run("runs/letters"))(["Once", "Twice"])

    Args:
        run: run of a model that translates, or of a decoder-only one.
        batch_tokens, dtype: as for `score`.
    """

    def __init__(self, run: Run | TextRun, *, batch_tokens: int = 8192, dtype: torch.dtype = torch.float32) -> None:
        self.run, self.batch_tokens, self.dtype = run, batch_tokens, dtype

    @overload
    def __call__(self, texts: str, targets: str | None = None) -> TargetScore: ...
    @overload
    def __call__(self, texts: Texts, targets: Texts | None = None) -> list[TargetScore]: ...
    def __call__(self, texts: Any, targets: Any = None) -> Any:
        """How likely each text is; with targets, how likely each target is as its translation or continuation.

        If a decoder-only model has no token before a text, the text counts from its second token on.

        Args:
            texts: one text, or a list of texts.
            targets: as many targets.

        Raises:
            UserError: a model that translates gets no targets, the numbers differ, or a text is longer than the model
                takes.
        """
        if targets is None:
            return each(texts, lambda given: iter(self._alone(list(given))), "scored")
        if isinstance(texts, str) != isinstance(targets, str):
            raise UserError("texts and targets are both one text, or both lists of them")
        if isinstance(texts, str):
            return self([texts], [targets])[0]
        run, sides = self.run, [list(checked(side)) for side in (texts, targets)]
        return score(run.model, run.tokenizer, *sides, batch_tokens=self.batch_tokens, dtype=self.dtype)

    def _alone(self, texts: list[str]) -> list[TargetScore]:
        """Score texts without targets."""
        run = self.run
        if not isinstance(run, TextRun):
            raise UserError("this model translates: give sources and targets")
        first = first_token(run.model)
        start = [*run.tokenizer.start_ids] or ([] if first is None else [first])
        rows = [[*start, *run.tokenizer.encode(text)] for text in texts]
        pairs = [(row[: len(start) or 1], row[len(start) or 1 :]) for row in rows]
        return [
            TargetScore(row) for row in score_ids(run.model, pairs, batch_tokens=self.batch_tokens, dtype=self.dtype)
        ]
