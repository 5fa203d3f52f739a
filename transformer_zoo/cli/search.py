"""Options that several commands have."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse.typing import PositiveInt

if TYPE_CHECKING:
    from transformer_zoo.training.checkpoint import Run


@dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """How translations are looked for.

    Args:
        beam: Hypotheses kept for each line at each step; 1 is greedy. By default what the run's recipe tests
            with, or 5.
        length_penalty: The penalty's exponent alpha: 0 prefers short translations, more prefers longer ones.
            By default the recipe's, or 0.6.
        penalty: Log-probabilities are divided by ((5 + length) / 6)^alpha (gnmt, as in the paper) or by
            length^alpha (length); the length counts the end token. By default the recipe's, or gnmt.
        max_extra: A translation has at most this many tokens more than its source. By default the recipe's, or 50. A
            warning counts the translations that this cuts.
        max_source_tokens: A line of more than 1.5 times this is translated in pieces, cut at the ends of sentences. By
            default the recipe's, or the longest source that the run was trained on: of what is much longer a model
            leaves things out.
        write_special: Let translations have the unknown token, padding and the token for a begin, which are no text.
        batch_tokens: Room for hypotheses in a batch, which bounds memory: lines x beam x (longest line +
            max-extra) stays within it. By default 32768 on a CPU, 262144 on a GPU.
        device: cpu, cuda or cuda:N; auto is the GPU where there is one.
        dtype: Precision of the matrix products. In float32 a line's translation does not depend on its batch.
    """

    beam: PositiveInt | None = None
    length_penalty: float | None = None
    penalty: Literal["gnmt", "length"] | None = None
    max_extra: PositiveInt | None = None
    max_source_tokens: PositiveInt | None = None
    write_special: bool = False
    batch_tokens: PositiveInt | None = None
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    def settings(self, run: "Run") -> dict[str, Any]:
        """The search as it is written beside translations: options, then the recipe, then the paper."""
        how: dict[str, Any] = {"beam": 5, "length_penalty": 0.6, "penalty": "gnmt", "max_extra": 50}
        how |= {"max_source_tokens": run.max_source_tokens, "write_special": False}
        test = run.recipe.get("test") or {}
        options = {**vars(self), "write_special": self.write_special or None}
        given = {name: (options[name], test.get(name), default) for name, default in how.items()}
        return {name: next(value for value in values if value is not None) for name, values in given.items()}

    def load(self, run: Path, languages: "Languages") -> "Run":
        """The run, on the device, for these languages."""
        from transformer_zoo.training.checkpoint import load_translation_run
        from transformer_zoo.training.device import choose_device
        from transformer_zoo.training.imported import translating
        from transformer_zoo.training.translation import check_recipe

        loaded, chosen = load_translation_run(run, device=choose_device(self.device)), vars(languages).values()
        check_recipe(run, loaded.recipe)
        if any(chosen):
            loaded = translating(loaded, *chosen, of=str(run))
        return loaded

    def prepare(self, run: "Run", *, alone: bool = False, scored: bool = False) -> dict[str, Any]:
        """Make the run ready to translate with, and for nothing else: the options of `translate_n_best`.

        Args:
            alone: line by line.
            scored: with scores.
        """
        import torch

        from transformer_zoo.models import draft_of, pack

        settings, draft = self.settings(run), None
        if self.dtype == "float32":
            helps = settings["beam"] == 1 and (alone or not scored)
            draft = draft_of(run.model) if helps else None
            pack(run.model, in_place=True)
        never = () if settings.pop("write_special") else None
        return {
            **settings,
            "never": never,
            "batch_tokens": self.batch_tokens,
            "dtype": getattr(torch, self.dtype),
            "draft": draft,
        }


@dataclass(frozen=True, kw_only=True)
class Languages:
    """The languages of a multilingual run.

    Args:
        source_lang: Of an imported model that knows many languages: the one to translate from, in the model's own
            codes, such as eng_Latn (NLLB), en_XX (mBART), en (M2M-100). By default what import or recipe said.
        target_lang: The one to translate to, likewise.
    """

    source_lang: str | None = None
    target_lang: str | None = None
