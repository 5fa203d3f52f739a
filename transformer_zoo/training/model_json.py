"""model.json of a run, and the tokenizer that goes with the model."""

from dataclasses import dataclass, replace
from pathlib import Path

from transformer_zoo.checksums import read_fields, write_fields
from transformer_zoo.config import DecoderConfig, EncoderDecoderConfig
from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers import Tokenizer, TranslationTokenizer


def first_line(error: BaseException) -> str:
    """The first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@dataclass(frozen=True)
class ModelJson:
    """What model.json holds; the fields of `save_model_config`."""

    config: EncoderDecoderConfig | DecoderConfig
    max_source_tokens: int | None
    tokenizer: str | None


def read_model_json(folder: Path) -> ModelJson:
    """What `save_model_config` wrote. UserError if it cannot be read."""
    path = folder / "model.json"
    try:
        fields = read_fields(path)
    except FileNotFoundError:
        raise UserError(f"{path} is not there: put it back from a copy") from None
    family, longest, fingerprint = (fields.pop(name, None) for name in ("family", "max_source_tokens", "tokenizer"))
    kinds = {"encoder-decoder": EncoderDecoderConfig, "decoder-only": DecoderConfig}
    if not isinstance(family, str) or family not in kinds:
        raise UserError(f"{path}: family is neither encoder-decoder nor decoder-only")
    if not (longest is None or (type(longest) is int and longest > 0)) or not isinstance(fingerprint, str | None):
        raise UserError(f"{path} is damaged (max_source_tokens or tokenizer): put it back from a copy")
    try:
        return ModelJson(kinds[family].from_dict(fields), longest, fingerprint)  # type: ignore[attr-defined]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: {first_line(error)}") from None


def save_model_config(
    run_dir: Path,
    family: str,
    config: EncoderDecoderConfig | DecoderConfig,
    *,
    max_source_tokens: int | None = None,
    tokenizer: str | None = None,
) -> None:
    """Writes model.json: the configuration and, where given, what else a run of this family has to know.

    Args:
        run_dir: folder of the run.
        family: "encoder-decoder" or "decoder-only".
        config: of the model.
        max_source_tokens: the longest source of the training text, eos included.
        tokenizer: fingerprint of the text tokenizer that the model is trained with; another one is then refused.
    """
    extras = {"max_source_tokens": max_source_tokens, "tokenizer": tokenizer}
    given = {name: value for name, value in extras.items() if value is not None}
    write_fields(run_dir / "model.json", {"family": family, **given, **config.to_dict()})


def check_translation_tokenizer(folder: Path, config: EncoderDecoderConfig, tokenizer: TranslationTokenizer) -> None:
    """Whether the model has an embedding for each id; an imported one may have some more. UserError if not."""
    if wrong := tokenizer.fits(config.vocab_size, config.target_size):
        raise UserError(f"{folder}: {wrong}")


def check_text_tokenizer(folder: Path, config: DecoderConfig, tokenizer: Tokenizer, fingerprint: str | None) -> None:
    """Whether the model was trained with this tokenizer, as far as can be told. UserError if not."""
    differs = []
    if tokenizer.vocab_size != config.vocab_size:
        differs.append(f"{tokenizer.vocab_size} tokens for a vocabulary of {config.vocab_size}")
    if config.eos_id not in (None, tokenizer.eos_id):
        differs.append(f"end of text {tokenizer.eos_id} for {config.eos_id}")
    if fingerprint not in (None, tokenizer.fingerprint):
        differs.append("other tokens than the model was trained with")
    if differs:
        raise UserError(f"{folder / 'tokenizer'} does not fit model.json: {', '.join(differs)}")


def with_special_ids(config: EncoderDecoderConfig, tokenizer: TranslationTokenizer) -> EncoderDecoderConfig:
    """The configuration with the tokens that the chosen languages end a source and start a target with."""
    bos_id = config.bos_id if tokenizer.bos_id is None else tokenizer.bos_id
    end_id = config.source_end_id if tokenizer.source_end_id is None else tokenizer.source_end_id
    return replace(config, bos_id=bos_id, source_end_id=end_id)


def without_special(config: EncoderDecoderConfig, tokenizer: TranslationTokenizer) -> EncoderDecoderConfig:
    """The configuration of a model that is trained on: it writes no unknown, no padding and no begin."""
    special = {config.pad_id, config.bos_id, *tokenizer.target.special_ids} - {config.eos_id, config.forced_last_id}
    never = {token for token in special if token < config.target_size}
    return replace(config, never_ids=tuple(sorted({*config.never, *never})))
