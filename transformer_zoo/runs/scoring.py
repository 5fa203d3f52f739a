"""`tz.scorer`: how likely a model finds texts, or translations of them."""

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
    """What says how likely texts are to a model: translations of sources, or texts and what follows prompts.
    >>> [found] = scorer("runs/de-en")(["ja"], ["yes"])
    >>> found.log_prob == scorer("runs/de-en")("ja", "yes").log_prob < 0
    True

    Args:
        source: a run, its folder, a folder of Hugging Face's, or the name of either on the hub.
        device: cpu, cuda or cuda:N; None: where a run is that is given, else the GPU if there is one.
        dtype: of the matrix products: float32, bfloat16 or float16.
        batch_tokens: most tokens of a batch on either side, padding included.
        source_lang, target_lang: of a multilingual model, in its own codes; None: what the run says.

    Raises:
        UserError: there is no such model, or it does not write.
    """
    wanted = dtype_of(dtype)
    run = cast(Run | TextRun, opened(source, device, "tz.scorer", Run, TextRun))
    if source_lang or target_lang:
        run = translating(run, source_lang, target_lang, of=str(source))
    return Scorer(run, batch_tokens=batch_tokens, dtype=wanted)


class Scorer:
    """A model that is ready to score; `scorer` makes it.
    >>> [one, other] = Scorer(load_run("runs/letters"))(["Once", "Twice"])

    Args:
        run: of a model that translates, or of a decoder-only one.
        batch_tokens, dtype: as for `score`.
    """

    def __init__(self, run: Run | TextRun, *, batch_tokens: int = 8192, dtype: torch.dtype = torch.float32) -> None:
        self.run, self.batch_tokens, self.dtype = run, batch_tokens, dtype

    @overload
    def __call__(self, texts: str, targets: str | None = None) -> TargetScore: ...
    @overload
    def __call__(self, texts: Texts, targets: Texts | None = None) -> list[TargetScore]: ...
    def __call__(self, texts: Any, targets: Any = None) -> Any:
        """How likely each text is; or each target, as a translation of its text, or as what follows it.

        A text that a decoder-only model begins with nothing counts from its second token on.

        Args:
            texts: a text, or a list of them.
            targets: as many.

        Raises:
            UserError: a model that translates has no targets, numbers differ, or a text is longer than a model takes.
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
        """Texts by themselves."""
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
