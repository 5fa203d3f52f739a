"""Options that several commands have."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from jsonargparse.typing import PositiveInt

from transformer_zoo.config import BeamSearch
from transformer_zoo.lent import lent

if TYPE_CHECKING:
    from transformer_zoo.runs import Run, TextRun, Translator

    BeamOptions = BeamSearch
else:  # a value that is not given is the recipe's, or the paper's
    BeamOptions = lent(BeamSearch, without=("n_best", "max_length"), optional=True)


@dataclass(frozen=True, kw_only=True)
class SearchOptions(BeamOptions):
    """How translations are searched for. The default values are those of the run's recipe for tests, or the paper's.

    Args:
        max_source_tokens: A line of more than 1.5 times this length is cut at the ends of sentences and translated in
            pieces. The default is the recipe's value, or the longest source that the run was trained on. A model leaves
            things out of much longer lines.
        write_special: Allow the unknown token, padding and the begin token in translations, though they are not text.
        batch_tokens: Size of a batch, which bounds memory: lines x beam x (longest line + max-extra) stays within it.
            By default 32768 on a CPU, 262144 on a GPU.
        device: cpu, cuda, cuda:N or mps; auto is the GPU if there is one.
        dtype: Type of the matrix products. In float32 the translation of a line does not depend on its batch.
    """

    max_source_tokens: PositiveInt | None = None
    write_special: bool = False
    batch_tokens: PositiveInt | None = None
    device: str = "auto"
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"

    def __post_init__(self) -> None:
        given = {field.name: getattr(self, field.name, None) for field in fields(BeamSearch)}
        BeamSearch(**{name: value for name, value in given.items() if value is not None})

    def load(self, run: Path, languages: "Languages") -> "Run | TextRun":
        """The run, on the device, for these languages."""
        from transformer_zoo.runs.huggingface import translating
        from transformer_zoo.runs.load import load_writer
        from transformer_zoo.training.device import choose_device

        loaded, chosen = load_writer(run, device=choose_device(self.device)), vars(languages).values()
        return translating(loaded, *chosen, of=str(run)) if any(chosen) else loaded

    def load_translation(self, run: Path, languages: "Languages") -> "Run":
        """The same for a run that translates; any other is refused with a UserError."""
        from transformer_zoo.runs.load import Run, of_kind

        return of_kind(self.load(run, languages), run, Run)

    def translator(
        self, run: "Run | TextRun", *, name: str, window: int = 2048, scored: bool = False, **how: Any
    ) -> "Translator":
        """A translator of a run that is prepared for that alone; `window` lines are read ahead."""
        import torch

        from transformer_zoo.inference import Batching
        from transformer_zoo.runs import Translator

        names = [one.name for one in fields(self) if one.name not in ("batch_tokens", "device", "dtype")]
        given = {name: value for name in names if (value := getattr(self, name)) is not None and value is not False}
        batching = Batching(batch_tokens=self.batch_tokens, window=window, dtype=getattr(torch, self.dtype))
        return Translator(run, name=name, batching=batching, in_place=True, scored=scored, **given, **how)


@dataclass(frozen=True, kw_only=True)
class Languages:
    """The languages of a multilingual run.

    Args:
        source_lang: For an imported model that knows many languages: the one to translate from, in the model's own
            codes, such as eng_Latn (NLLB), en_XX (mBART), en (M2M-100). The default is what import or recipe said.
        target_lang: The language to translate to, in the same form.
    """

    source_lang: str | None = None
    target_lang: str | None = None
