"""`tz.translator`: text in, translations out."""

from collections import deque
from collections.abc import Iterable, Iterator
from copy import copy
from dataclasses import fields, replace
from typing import Any, TypedDict, Unpack, overload

import torch

from transformer_zoo.config import BeamSearch
from transformer_zoo.config.decoding import Penalty, Translating
from transformer_zoo.errors import UserError
from transformer_zoo.inference import (
    Batching,
    Explained,
    Speculation,
    Translation,
    draft_of,
    explain,
    pack,
    translate_n_best,
)
from transformer_zoo.inference.codec import codec_of
from transformer_zoo.inference.splitting import Cutter
from transformer_zoo.runs.doors import Source, Stream, Texts, dtype_of, each, opened, settled
from transformer_zoo.runs.huggingface import translating
from transformer_zoo.runs.load import Run, TextRun
from transformer_zoo.runs.paragraphs import laid_out, put_back


class TranslateOptions(TypedDict, total=False):
    """Options of translations, for all of them or for one call: the fields of `Translating`."""

    beam: int
    length_penalty: float
    penalty: Penalty
    max_extra: int
    max_length: int | None
    repetition_penalty: float | None
    no_repeat_ngram_size: int | None
    min_new_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    seed: int | None
    source_lang: str | None
    target_lang: str | None
    prefix: str | list[int] | tuple[int, ...]
    max_source_tokens: int | None
    write_special: bool


def translator(
    source: Source,
    *,
    device: str | None = None,
    dtype: str = "float32",
    batch_tokens: int | None = None,
    **how: Unpack[TranslateOptions],
) -> "Translator":
    """A function that translates, from a run, a folder or a name: text to text, list to list, iterator to iterator.
    >>> translate = translator("runs/de-en", beam=2, max_extra=5)
    >>> one, two = translate("ja"), translate(["ja", "nein"])

    Args:
        source: the folder of a run, or a run; a folder in Hugging Face's format; or the name of either on the hub, such
            as Helsinki-NLP/opus-mt-en-de, which is fetched once. A given run does not change.
        device: cpu, cuda, cuda:N or mps; None: the device of a given run, otherwise the GPU if there is one.
        dtype: of the matrix products: float32, bfloat16 or float16. In float32 the translation of a text does not
            depend on the other texts in its batch.
        batch_tokens: as for `Batching`.
        how: fields of `Translating`, for all calls that give no other value; the default is how the run's recipe tests.

    Raises:
        UserError: there is no such model, it does not translate, or an option has a wrong value.
    """
    settled(Translating(), how)  # mistakes are reported before anything is read
    batching = Batching(batch_tokens=batch_tokens, dtype=dtype_of(dtype))
    run = opened(source, device, "tz.translator", Run)
    name = "the run" if run is source else str(source)
    return Translator(run, name=name, batching=batching, in_place=run is not source, **how)


class Translator:
    """A model that is ready to translate; made by `translator`.
    >>> Translator(load_run("runs/de-en"), beam=1, max_extra=3).split("ja\\n\\n nein")
    ['', 'ja', '\\n\\n ', 'nein', '']

    Args:
        run: run of a model that translates; or of a decoder-only one, whose best continuation of each text is found.
        name: name of the model in messages.
        batching: how lines become batches; it does not change a translation, except for what `dtype` rounds.
        in_place: whether the run's model may be prepared for translating alone; otherwise it does not change.
        scored: whether scores are wanted, which exclude faster ways.
        how: as for `translator`.

    Attributes:
        run: the run that translates, with its prepared model.
        how: the options for all calls that give no other value.
    """

    def __init__(
        self,
        run: Run | TextRun,
        *,
        name: str = "the run",
        batching: Batching = Batching(),
        in_place: bool = False,
        scored: bool = False,
        **how: Unpack[TranslateOptions],
    ) -> None:
        self.how, self.batching, self.name = settled(as_tested(run), how), batching, name
        model, draft = run.model, None
        if batching.dtype == torch.float32:
            draft = draft_of(model) if self.how.search.beam == 1 and not scored else None
            model = pack(model, in_place=in_place)
        self.run: Run | TextRun = replace(run, model=model)  # type: ignore[arg-type]
        self._runs: dict[Any, tuple[Run | TextRun, Any]] = {(None, None): (self.run, draft)}
        self._in(self.how)  # do these languages exist?

    @property
    def languages(self) -> tuple[str, ...]:
        """Codes of the languages of a multilingual model; empty for most models."""
        return self.run.tokenizer.languages if isinstance(self.run, Run) else ()

    @property
    def wants(self) -> str:
        """A short text that asks a user for input."""
        if not isinstance(self.run, Run):
            return "Type how a line begins"
        run, _ = self._in(self.how)
        sides = {"from": _language(run, self.how), "to": run.target_language if isinstance(run, Run) else None}
        return " ".join(["Type a line to translate", *(f"{word} {code}" for word, code in sides.items() if code)])

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of its search, as they are written beside translations."""
        shown = {one.name for one in fields(BeamSearch)} - {"n_best", "max_length"}
        found = {name: value for name, value in vars(self.how).items() if name in shown and value is not None}
        return {**found, "max_source_tokens": self._longest(self.how), "write_special": self.how.write_special}

    @overload
    def __call__(self, text: str, *, n_best: None = None, **how: Unpack[TranslateOptions]) -> str: ...
    @overload
    def __call__(self, text: str, *, n_best: int, **how: Unpack[TranslateOptions]) -> list[Translation]: ...
    @overload
    def __call__(self, text: Texts, *, n_best: None = None, **how: Unpack[TranslateOptions]) -> list[str]: ...
    @overload
    def __call__(self, text: Texts, *, n_best: int, **how: Unpack[TranslateOptions]) -> list[list[Translation]]: ...
    @overload
    def __call__(self, text: Stream, *, n_best: None = None, **how: Unpack[TranslateOptions]) -> Stream: ...
    @overload
    def __call__(
        self, text: Stream, *, n_best: int, **how: Unpack[TranslateOptions]
    ) -> Iterator[list[Translation]]: ...
    def __call__(self, text: Any, *, n_best: int | None = None, **how: Unpack[TranslateOptions]) -> Any:
        """The translation of a text, of all texts of a list, or of each text from an iterator.

        Blank lines, and white space around lines, come back unchanged. A line is translated as a whole, unless it is
        much longer than the lines that the model was trained on: see `split`.

        Args:
            text: one text, a list, or an iterator, of which `Batching.window` lines are read ahead.
            n_best: return a list of the N best translations, which are different, instead of the best one.
            how: fields of `Translating`, for this call.

        Raises:
            UserError: it is not a text, or an option has a wrong value.
        """

        def answer(texts: Iterable[str]) -> Iterator[Any]:
            found = self.best(texts, n_best=1 if n_best is None else n_best, scored=n_best is not None, **how)
            return (one.text for [one] in found) if n_best is None else found

        return each(text, answer, "translated")

    def best(
        self,
        texts: Iterable[str],
        *,
        n_best: int = 1,
        scored: bool = True,
        name: str = "",
        **how: Unpack[TranslateOptions],
    ) -> Iterator[list[Translation]]:
        """The best translations of each text, in order; `scored`: with log-probabilities; `name` begins warnings."""
        wanted = settled(self.how, how)
        run, draft = self._in(wanted)
        shown = deque[list[str]]()

        def lines() -> Iterator[str]:
            for text in texts:
                shown.append(laid_out(text, run))
                yield from shown[-1][1::2] or [""]

        found = translate_n_best(
            run.model,
            run.tokenizer,
            lines(),
            replace(wanted.search, n_best=n_best),
            scored=scored,
            sampling=wanted.sampling,
            seed=wanted.seed,
            prefix=wanted.prefix,
            never=wanted.never,
            max_source_tokens=self._longest(wanted),
            language=_language(run, wanted),
            speculation=Speculation(draft=draft),
            batching=self.batching,
            name=name,
        )
        return put_back(found, shown)

    def split(self, text: str, **how: Unpack[TranslateOptions]) -> list[str]:
        """The parts of a text that are translated separately, and the white space around them. They alternate; white
        space is first and last. A part is a line, or some sentences of a line that is much longer than those the model
        was trained on. Each part begins with the tag of the text, such as that of a language.
        """
        wanted = settled(self.how, how)
        run, _ = self._in(wanted)
        cutter = Cutter.of(run.model, self._longest(wanted), _language(run, wanted))
        codec, found, rest = codec_of(run.model, run.tokenizer), list[str](), text
        for line in laid_out(text, run)[1::2]:
            for part in codec.parts(line, cutter).texts:
                around, _, rest = rest.partition(part if part in rest else codec.bare(part))
                found += [around, part]
        return [*found, rest]

    @overload
    def explain(self, text: str, *, k: int = 5, n_best: None = None, **how: Unpack[TranslateOptions]) -> Explained: ...
    @overload
    def explain(self, text: str, *, k: int = 5, n_best: int, **how: Unpack[TranslateOptions]) -> list[Explained]: ...
    def explain(self, text: str, *, k: int = 5, n_best: int | None = None, **how: Unpack[TranslateOptions]) -> Any:
        """The best translation of one line token by token: how likely each token is, which others could stand there,
        and where in the source the model looked; see `inference.explain`.

        With `prefix` the translation begins with a given text or with given ids. To choose an alternative, give the
        first ids of an explanation, followed by the id of the alternative.
        >>> translate.explain("ja", prefix=[*before.ids[:1], before.pieces[1].alternatives[1].id])  # doctest: +SKIP

        Args:
            text: a line, or a part from `split`.
            k: number of alternatives at each position.
            n_best: return a list of the N best translations, which are different, instead of the best one.
            how: fields of `Translating`, for this call.
        """
        if len(self.split(text, **how)) != 3:
            raise UserError("explain takes one line that is not blank: give it each part that `split` gives")
        wanted = settled(self.how, how)
        (run, _), [best] = self._in(wanted), self.best([text], n_best=n_best or 1, scored=False, **how)
        [given], end = codec_of(run.model, run.tokenizer).encode([text.strip()]), list(run.model.facts.ends)[:1]
        answers = [[*one.tokens, *([] if one.is_cut else end)] for one in best]
        found = [explain(run.model, run.tokenizer, given, answer, k=k, never=wanted.never) for answer in answers]
        return found[0] if n_best is None else found

    def _in(self, how: Translating) -> tuple[Run | TextRun, Any]:
        """The run for the languages that are wanted, and its draft."""
        is_told = not isinstance(self.run, Run) or self.run.tokenizer.takes_source
        wanted = how.source_lang if is_told else None, how.target_lang
        if wanted not in self._runs:
            _, draft = self._runs[None, None]
            run = translating(self.run, *wanted, of=self.name)
            if draft is not None:
                draft = copy(draft)
                draft.config = run.model.config
            if len(self._runs) > _PAIRS:
                del self._runs[[*self._runs][1]]  # the oldest but the run itself
            self._runs[wanted] = run, draft
        return self._runs[wanted]

    def _longest(self, how: Translating) -> int:
        """Number of tokens of the longest source in training, or the number given instead."""
        own = self.run.max_source_tokens if isinstance(self.run, Run) else self.run.model.config.max_seq_len
        return how.max_source_tokens or own


_PAIRS = 16
"""Number of language pairs that a translator keeps ready; each has a tokenizer of its own."""


def as_tested(run: Run | TextRun) -> Translating:
    """The search with which a run's recipe tests it, or the paper's."""
    test = run.recipe.get("test") or {}
    return Translating(**{one.name: test[one.name] for one in fields(Translating) if test.get(one.name) is not None})


def _language(run: Run | TextRun, how: Translating) -> str | None:
    """The language of the sources."""
    return how.source_lang or (run.source_language if isinstance(run, Run) else None)
