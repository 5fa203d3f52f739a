"""model.json of a run, and the check that a tokenizer fits the model."""

from dataclasses import dataclass
from pathlib import Path

from transformer_zoo.checksums import read_fields, write_fields
from transformer_zoo.config import DecoderConfig, EncoderConfig, EncoderDecoderConfig
from transformer_zoo.errors import UserError, first_line
from transformer_zoo.tokenizers import Tokenizer, TranslationTokenizer

FAMILIES = {"encoder-decoder": EncoderDecoderConfig, "decoder-only": DecoderConfig, "encoder-only": EncoderConfig}


@dataclass(frozen=True)
class ModelJson:
    """The content of model.json: the model's configuration, and what else a run of its family must know.

    Args:
        config: configuration of the model.
        max_source_tokens: length of the longest source in the training text, eos included.
        tokenizer: fingerprint of the tokenizer that the model is trained with; any other is refused.
    """

    config: EncoderDecoderConfig | DecoderConfig | EncoderConfig
    max_source_tokens: int | None = None
    tokenizer: str | None = None


def read_model_json(folder: Path) -> ModelJson:
    """Read what `write_model_json` wrote. UserError: it cannot be read."""
    path = folder / "model.json"
    try:
        fields = read_fields(path)
    except FileNotFoundError:
        raise UserError(f"{path} is not there: put it back from a copy") from None
    family, longest, fingerprint = (fields.pop(name, None) for name in ("family", "max_source_tokens", "tokenizer"))
    if not isinstance(family, str) or family not in FAMILIES:
        raise UserError(f"{path}: family is neither {' nor '.join(FAMILIES)}")
    if not (longest is None or (type(longest) is int and longest > 0)) or not isinstance(fingerprint, str | None):
        raise UserError(f"{path} is damaged (max_source_tokens or tokenizer): put it back from a copy")
    try:
        return ModelJson(FAMILIES[family].from_dict(fields), longest, fingerprint)  # type: ignore[attr-defined]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: {first_line(error)}") from None


def write_model_json(folder: Path, about: ModelJson) -> None:
    """Write model.json, without fields that are None."""
    extras = {"max_source_tokens": about.max_source_tokens, "tokenizer": about.tokenizer}
    given = {name: value for name, value in extras.items() if value is not None}
    family = next(name for name, kind in FAMILIES.items() if isinstance(about.config, kind))
    write_fields(folder / "model.json", {"family": family, **given, **about.config.to_dict()})


def check_translation_tokenizer(folder: Path, config: EncoderDecoderConfig, tokenizer: TranslationTokenizer) -> None:
    """Check that the model has an embedding for each id; an imported model may have some more. UserError: it has
    not."""
    if wrong := tokenizer.fits(config.vocab_size, config.target_size):
        raise UserError(f"{folder}: {wrong}")


def check_text_tokenizer(
    folder: Path, config: DecoderConfig | EncoderConfig, tokenizer: Tokenizer, fingerprint: str | None
) -> None:
    """Check that the model was trained with this tokenizer, as far as is known. UserError: it was not."""
    differs = []
    spare = config.vocab_size - tokenizer.vocab_size
    if spare < 0 or (spare and isinstance(config, DecoderConfig)):  # pad and mask are not tokens of texts
        differs.append(f"{tokenizer.vocab_size} tokens for a vocabulary of {config.vocab_size}")
    if (eos_id := getattr(config, "eos_id", None)) not in (None, tokenizer.eos_id):
        differs.append(f"end of text {tokenizer.eos_id} for {eos_id}")
    if fingerprint not in (None, tokenizer.fingerprint):
        differs.append("other tokens than the model was trained with")
    if differs:
        raise UserError(f"{folder / 'tokenizer'} does not fit model.json: {', '.join(differs)}")
