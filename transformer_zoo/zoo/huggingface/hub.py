"""Models on the Hugging Face hub, by name."""

from pathlib import Path

from transformer_zoo.errors import UserError

_SMALL = (
    "config.json", "generation_config.json", "*.spm", "*.model", "tokenizer*.json", "*vocab.json", "vocab.txt",
    "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja",
)  # fmt: skip
_SAFETENSORS = ("model.safetensors", "model[-_]*.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model[-_]*.bin", "pytorch_model.bin.index.json")


def resolve(path_or_name: str | Path) -> Path:
    """The folder itself, or one with the files of the hub's model of that name, which are fetched once.

    These are configuration, tokenizer and weights: as safetensors, or, where there are none, pickled.

    Raises:
        UserError: neither a folder nor a name on the hub, or the hub cannot be reached.
    """
    folder = Path(path_or_name)
    if folder.is_dir():
        return folder
    name = str(path_or_name)
    if folder.exists() or name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise UserError(f"{name}: no such folder")
    from huggingface_hub import snapshot_download  # takes long to load, and only a name needs it
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        fetched = Path(snapshot_download(name, allow_patterns=[*_SMALL, *_SAFETENSORS]))
        if not any(fetched.glob("model*.safetensors")):
            fetched = Path(snapshot_download(name, allow_patterns=[*_SMALL, *_PICKLED]))
        return fetched
    except GatedRepoError:
        raise UserError(
            f"{name}: its authors ask for their terms to be accepted: do so at https://huggingface.co/{name}, then run "
            "`hf auth login` here with a token of that account"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{name}: no such folder, and the hub has no such model, or a private one: check the name, or run "
            "`hf auth login`"
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in said if not line.startswith("(Request ID")), type(error).__name__)
        raise UserError(f"{name}: no such folder, and the hub does not give it ({reason})") from None
