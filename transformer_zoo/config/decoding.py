"""How a model writes, as frozen data that Python, commands and recipes share."""

from dataclasses import dataclass, field, fields, replace
from typing import Literal

from transformer_zoo.config.spec import Spec
from transformer_zoo.errors import UserError
from transformer_zoo.words import ABOVE_0, COUNT, Range, outside

Penalty = Literal["gnmt", "length"]
"""What a hypothesis of a beam is divided by for its length; `BeamSearch` has both formulas."""


_RANGES: dict[str, Range] = {
    "repetition_penalty": ABOVE_0, "temperature": (0, 1000, "[]"), "top_k": COUNT, "top_p": (0, 1, "(]"),
    "min_p": (0, 1, "[]"), "beam": (1, 1000, "[]"), "n_best": COUNT, "max_extra": (1, 1_000_000, "[]"),
    "max_length": COUNT, "length_penalty": (-10, 10, "[]"), "max_source_tokens": COUNT, "max_new_tokens": COUNT,
    "stride": COUNT,
}  # fmt: skip
"""Ranges of these numbers; other numbers are at least 0."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What may not be written next, in every way of writing. By default it is what the model's configuration says; a
    downloaded model follows its generation_config.json.
    >>> tz.inference.processors(Rules(no_repeat_ngram_size=3), tz.create_model("gpt-nano"))
    [NoRepeatedNgrams(size=3)]

    Args:
        repetition_penalty: Above 1, tokens that were there before become less likely.
        no_repeat_ngram_size: No run of so many tokens is written twice; 0 for any.
        min_new_tokens: Number of tokens that are written at least before the end.

    Raises:
        UserError: a number is out of range.
    """

    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    min_new_tokens: int | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            value, limits = getattr(self, one.name), _RANGES.get(one.name, (0, 2**63, "[)"))
            if isinstance(value, int | float) and (wrong := outside(value, limits)):
                raise UserError(f"{one.name} is {value}, {wrong}")


@dataclass(frozen=True, kw_only=True)
class RulesSpec(Spec):
    """What a model says about its own texts; for a downloaded model, what its generation_config.json says.
    >>> config = tz.get_config("gpt-nano", rules=RulesSpec(no_repeat_ngram_size=3))
    """

    repetition_penalty: float | None = None
    """Above 1, tokens that were there before become less likely."""
    no_repeat_ngram_size: int | None = None
    """No run of this many tokens is written twice."""
    min_length: int | None = None
    """Number of tokens before the end, at least; the prompt or the token that a target starts with counts."""
    min_new_tokens: int | None = None
    """Number of tokens that are written before the end, at least."""
    never_first_ids: tuple[int, ...] | None = None
    """Tokens that are not written first."""
    forced_first_id: int | None = None
    """The token that is written first if nothing else must be, such as the tag of a language."""
    stop_strings: tuple[str, ...] | None = None
    """Texts that end what is written."""


@dataclass(frozen=True, kw_only=True)
class Sampling(Rules):
    """How the next token is drawn. A field that is None, and a temperature of 1, change nothing.
    >>> Sampling(temperature=0).is_greedy
    True

    Args:
        temperature: Logits are divided by it. Below 1 likely tokens become likelier; 0 always takes the most likely
            one.
        top_k: Draw from the K most likely tokens.
        top_p: Draw from the fewest tokens that together have this probability.
        min_p: Draw from the tokens that have at least this share of the highest probability.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None

    @property
    def is_greedy(self) -> bool:
        """Whether nothing is left to chance."""
        return self.temperature == 0 or self.top_k == 1


@dataclass(frozen=True, kw_only=True)
class BeamSearch(Rules):
    """How the best answer is searched for.
    >>> BeamSearch(length_penalty=1.0).divisor(7)  # (5 + 7) / 6
    2.0

    Args:
        beam: Number of hypotheses kept for each source at each step; 1 is greedy search.
        n_best: Number of answers to each source, the best first.
        length_penalty: The penalty's exponent alpha: 0 prefers short answers, larger values prefer longer ones.
        penalty: Log-probabilities are divided by ((5 + length) / 6)^alpha (gnmt, as in the paper) or by length^alpha
            (length). The length counts the end token.
        max_extra: An answer has at most this many tokens more than its source; both count their end token. It never has
            more than the model has positions for.
        max_length: An answer has at most this many tokens, however long its source is.
    """

    beam: int = 5
    n_best: int = 1
    length_penalty: float = 0.6
    penalty: Penalty = "gnmt"
    max_extra: int = 50
    max_length: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.penalty not in ("gnmt", "length"):
            raise UserError(f"penalty {self.penalty!r} is unknown: take 'gnmt' or 'length'")

    def divisor(self, length: int) -> float:
        """The number that the log-probability of a hypothesis is divided by. Its length counts eos, not bos.

        "gnmt": ((5 + length) / 6)^alpha, Wu et al. 2016, equation 14 (the Transformer paper's, alpha 0.6);
        "length": length^alpha.
        """
        return float(((5 + length) / 6 if self.penalty == "gnmt" else length) ** self.length_penalty)


@dataclass(frozen=True, kw_only=True)
class Translating(BeamSearch):
    """How texts are translated.

    Args:
        temperature, top_k, top_p, min_p: If any of these is given, a translation is drawn as for `Sampling`, not
            searched.
        seed: Seed of what is drawn: line i, from 0, has seed + i; None: another one each time.
        source_lang: The language to translate from. A model that is told the language takes its own codes (eng_Latn in
            NLLB, en_XX in mBART, en in M2M-100). Other models take any spelling; the language's rules say where
            sentences end. None: as the run says.
        target_lang: The language to translate to, for a model that knows many; None: as the run says.
        prefix: The translation of every line begins with this text, or with these tokens.
        max_source_tokens: A line of more than 1.5 times this length is cut at the ends of sentences and translated in
            pieces. None: the length of the longest source that the run was trained on. A model leaves things out of
            much longer lines.
        write_special: Allow the unknown token, padding and the begin token in translations, though they are not text.
    """

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    seed: int | None = None
    source_lang: str | None = None
    target_lang: str | None = None
    prefix: str | list[int] | tuple[int, ...] = ""
    max_source_tokens: int | None = None
    write_special: bool = False

    @property
    def search(self) -> BeamSearch:
        """How a translation is searched for, or how long a drawn one may be."""
        found = BeamSearch(**{field.name: getattr(self, field.name) for field in fields(BeamSearch)})
        return found if self.sampling is None else replace(found, beam=1)

    @property
    def sampling(self) -> Sampling | None:
        """How a translation is drawn; None: it is searched for."""
        given = {field.name: getattr(self, field.name) for field in fields(Sampling)}
        drawn = any(given[name] is not None for name in ("temperature", "top_k", "top_p", "min_p"))
        return Sampling(**{name: value for name, value in given.items() if value is not None}) if drawn else None

    @property
    def never(self) -> tuple[int, ...] | None:
        """The tokens that are not written; None: as the model says."""
        return () if self.write_special else None


@dataclass(frozen=True, kw_only=True)
class Answering(Sampling):
    """How an answer is written, and when it ends.

    Args:
        max_new_tokens: Number of tokens of an answer, at most.
        stop: Strings that end an answer and are not part of it, in addition to those of the model.
        seed: Makes the answers the same each time: answer number i, from 0, is drawn with seed + i. By default they
            differ each time.
    """

    temperature: float = 0.8
    max_new_tokens: int = 200
    stop: list[str] = field(default_factory=list)
    seed: int | None = None


@dataclass(frozen=True, kw_only=True)
class Writing(Answering):
    """How answers to prompts are written.

    Args:
        stride: Prompt and answer may be longer than the model's context. The model then reads the last part of them,
            which moves by this many tokens each time it is full. The default is a quarter of the context.
        write_special: Allow the unknown token, padding and the begin token in answers, though they are not text.
    """

    stride: int | None = None
    write_special: bool = False
