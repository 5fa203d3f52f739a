"""The models of the server, by their names, by what they do, and by the languages between which they translate."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Generic, NamedTuple, TypeVar

from transformer_zoo.languages import english_name, short_code, with_script
from transformer_zoo.runs import EncoderRun, Run, TextRun
from transformer_zoo.serving.engine import Engine
from transformer_zoo.serving.refusals import Refusal

Language = tuple[str, str]
"""CLDR's code of it, and its script."""
R = TypeVar("R", bound=Run | TextRun | EncoderRun)


class Served(NamedTuple, Generic[R]):
    """A model: its name, the engine that computes its answers, and its run."""

    name: str
    engine: Engine
    run: R


class Chosen(NamedTuple):
    """A translator, and its names of the two languages; None: it has no others."""

    name: str
    engine: Engine
    run: Run
    source: str | None
    target: str | None


@dataclass(frozen=True)
class Translator:
    """A model that translates, and its own codes of the languages that it translates from and to."""

    served: Served[Run]
    sources: Mapping[Language, str]
    targets: Mapping[Language, str]

    @classmethod
    def of(cls, served: Served[Run]) -> "Translator":
        """Its languages: those that can be chosen, or the two that its tokenizer or its recipe names; und if neither
        does."""
        run, several = served.run, served.run.tokenizer.languages
        sources = several if run.tokenizer.takes_source else [run.source_language or "und"]
        targets = several or [run.target_language or "und"]
        return cls(served, *({with_script(code): code for code in reversed(side)} for side in (sources, targets)))

    def choose(self, source: Language | None, target: Language) -> Chosen | None:
        """The translator for these languages; None: it does not know them. Without a source, the only possible one is
        taken."""
        tokenizer = self.served.run.tokenizer
        only = next(iter(self.sources.values())) if len(self.sources) == 1 else None
        from_ = self.sources.get(source) if source else only
        if from_ is None or target not in self.targets:
            return None
        to = self.targets[target] if tokenizer.languages else None
        return Chosen(*self.served, from_ if tokenizer.takes_source else None, to)


class Catalogue:
    """Engines by the names of their models."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self.engines = dict(engines)
        self.translators = [Translator.of(served) for served in self._of_kind(Run)]

    def _of_kind(self, *kinds: type[R]) -> list[Served[R]]:
        return [
            Served(name, engine, engine.run) for name, engine in self.engines.items() if isinstance(engine.run, kinds)
        ]

    def check_name(self, name: str) -> None:
        """Refusal: no model has this name."""
        if name not in self.engines:
            there = f"model: there is none of this name; there are {', '.join(self.engines)}"
            raise Refusal(404, there, field="model", code="model_not_found")

    def choose(self, name: str | None, *kinds: type[R]) -> Served[R]:
        """The model of this name; without a name, the only model of these kinds.

        Raises:
            Refusal: there is no such model, there are several, or it is of another kind.
        """
        fitting, needed = self._of_kind(*kinds), " or ".join(kind.kind for kind in kinds)
        if name is None:
            if len(fitting) == 1:
                return fitting[0]
            names = ", ".join(served.name for served in fitting)
            reason = f"model: say which of {names}" if fitting else f"model: none here is {needed}"
            raise Refusal(400, reason, field="model")
        self.check_name(name)
        found = next((served for served in fitting if served.name == name), None)
        if found is None:
            reason = f"model: {name} is {self.engines[name].run.kind}, where {needed} is needed"
            raise Refusal(400, reason, field="model")
        return found

    def translator(self, source: str, target: str, name: str | None = None) -> Chosen:
        """The first model that translates from one language into the other, or the one of this name.

        Raises:
            Refusal: there is none; or the source is "auto", and several models or languages fit.
        """
        if name is not None:
            self.choose(name, Run)
        given, wanted = None if source == "auto" else with_script(source), with_script(target)
        translators = [one for one in self.translators if name in (None, one.served.name)]
        found = [chosen for one in translators if (chosen := one.choose(given, wanted))]
        if given is None and len(found) != 1:
            raise Refusal(400, "source: auto is not enough, nothing here detects languages: name it", field="source")
        if not found:
            raise Refusal(400, "source, target: no model here does that; /languages says what there is", field="target")
        return found[0]

    @cached_property
    def languages(self) -> list[dict[str, Any]]:
        """Every source language: its code, its name, and the codes of the languages that it is translated into."""
        targets: dict[Language, dict[Language, None]] = {}
        for one in self.translators:
            for source in one.sources:
                targets.setdefault(source, {}).update(dict.fromkeys(one.targets))
        return [
            {"code": short_code(*source), "name": english_name(*source), "targets": [short_code(*one) for one in into]}
            for source, into in targets.items()
        ]
