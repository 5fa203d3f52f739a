"""Options that several commands have."""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse.typing import PositiveInt

from transformer_zoo.config import BeamSearch
from transformer_zoo.lent import lent

if TYPE_CHECKING:
    from transformer_zoo.inference import Translation
    from transformer_zoo.runs.load import Run, TextRun

    Translator = Callable[..., Iterator[list[Translation]]]
    BeamOptions = BeamSearch
else:  # what is not given is the recipe's, or the paper's
    BeamOptions = lent(BeamSearch, without=("n_best", "max_length"), optional=True)


@dataclass(frozen=True, kw_only=True)
class SearchOptions(BeamOptions):
    """How translations are looked for. What is not given is as the run's recipe tests with, or as the paper has it.

    Args:
        max_source_tokens: A line of more than 1.5 times this is translated in pieces, cut at the ends of sentences. By
            default the recipe's, or the longest source that the run was trained on: of what is much longer a model
            leaves things out.
        write_special: Let translations have the unknown token, padding and the token for a begin, which are no text.
        batch_tokens: Room for hypotheses in a batch, which bounds memory: lines x beam x (longest line +
            max-extra) stays within it. By default 32768 on a CPU, 262144 on a GPU.
        device: cpu, cuda or cuda:N; auto is the GPU where there is one.
        dtype: Precision of the matrix products. In float32 a line's translation does not depend on its batch.
    """

    max_source_tokens: PositiveInt | None = None
    write_special: bool = False
    batch_tokens: PositiveInt | None = None
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name, None) for field in fields(BeamSearch)}
        BeamSearch(**{name: value for name, value in given.items() if value is not None})

    def settings(self, run: "Run | TextRun") -> dict[str, Any]:
        """The search as it is written beside translations: options, then the recipe, then the paper."""
        longest = getattr(run, "max_source_tokens", run.model.config.max_seq_len)
        defaults = asdict(BeamSearch()) | {"max_source_tokens": longest, "write_special": False}
        test, options = run.recipe.get("test") or {}, vars(self) | {"write_special": self.write_special or None}
        chosen: dict[str, Any] = {}
        for given in (defaults, test, options):
            chosen |= {name: given[name] for name in defaults if name in options and given.get(name) is not None}
        return chosen

    def load(self, run: Path, languages: "Languages") -> "Run | TextRun":
        """The run, on the device, for these languages."""
        from transformer_zoo.runs.huggingface import translating
        from transformer_zoo.runs.load import Run, load_writer
        from transformer_zoo.training.device import choose_device
        from transformer_zoo.training.tasks.translation_recipe import check_recipe

        loaded, chosen = load_writer(run, device=choose_device(self.device)), vars(languages).values()
        if isinstance(loaded, Run):
            check_recipe(run, loaded.recipe)
        return translating(loaded, *chosen, of=str(run)) if any(chosen) else loaded

    def load_translation(self, run: Path, languages: "Languages") -> "Run":
        """The same of a run that translates; any other is refused with a UserError."""
        from transformer_zoo.runs.load import Run, of_kind

        return of_kind(self.load(run, languages), run, Run)

    def translator(
        self, run: "Run | TextRun", *, window: int = 2048, scored: bool = False, n_best: int = 1, **how: Any
    ) -> "Translator":
        """`translate_n_best` by a run that is made ready for that alone; `window` lines are read ahead."""
        import torch

        from transformer_zoo.inference import Batching, Speculation, draft_of, pack, translate_n_best

        settings, draft = self.settings(run), None
        search = BeamSearch(
            n_best=n_best, **{f.name: settings[f.name] for f in fields(BeamSearch) if f.name in settings}
        )
        if self.dtype == "float32":
            draft = draft_of(run.model) if search.beam == 1 and not scored else None
            pack(run.model, in_place=True)
        return partial(
            translate_n_best,
            run.model,
            run.tokenizer,
            how=search,
            scored=scored,
            never=() if settings["write_special"] else None,
            max_source_tokens=settings["max_source_tokens"],
            speculation=Speculation(draft=draft),
            batching=Batching(batch_tokens=self.batch_tokens, window=window, dtype=getattr(torch, self.dtype)),
            **how,
        )


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
