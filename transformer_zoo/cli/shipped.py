"""`transformer-zoo recipes` and `prepare`: the recipes and the corpus scripts that come with the package."""

import ast
import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

from transformer_zoo.errors import UsageError, UserError
from transformer_zoo.words import did_you_mean

_PACKAGE = Path(__file__).resolve().parents[1]


def recipes(name: str = "", /, output: Path | None = None) -> None:
    """List the recipes that come with the package, or copy one to train by or to change.

    Args:
        name: The recipe to copy; without it all are listed.
        output: File to copy it to; by default NAME.yaml.

    Examples:
        transformer-zoo recipes
        transformer-zoo recipes numbers
        transformer-zoo recipes multi30k --output mine.yaml
    """
    found = {path.stem: path for path in sorted(shipped().glob("recipes/*/*.yaml"))}
    if not name:
        for one, path in found.items():
            about = path.read_text("utf-8").partition("\n")[0].partition(" Prepare: ")[0]
            print(f"{one:{max(map(len, found))}}  {about.lstrip('# ')}")
        return
    source, target = found[_known(name, found, "recipe")], output or Path(f"{name}.yaml")
    if target.exists():
        raise UserError(f"{target}: there is something already; remove it, or give another --output")
    shutil.copyfile(source, target)
    print(f"{target}: train by it with: transformer-zoo train {target}")


def prepare(corpus: str = "", /, *options: str) -> None:
    """Write one of the corpora that recipes train on, by default into data/CORPUS, where recipes look for it.

    Args:
        corpus: Name of the corpus; without it all are listed.
        options: Options of this corpus, which --help after its name explains.

    Examples:
        transformer-zoo prepare
        transformer-zoo prepare numbers
        transformer-zoo prepare tinyshakespeare --from downloads
    """
    from transformer_zoo.data.corpora import run

    found = {path.parent.name: path for path in sorted(shipped().glob("data/*/prepare.py"))}
    if not corpus:
        for one, path in found.items():
            about = ast.get_docstring(ast.parse(path.read_text("utf-8"))) or ""
            print(f"{one:{max(map(len, found))}}  {about.partition(chr(10))[0]}")
        return
    script = load_script(found[_known(corpus, found, "corpus")])
    is_placed = any(word.partition("=")[0] == "--out" for word in options)
    run(script.prepare, options if is_placed else [*options, "--out", f"data/{corpus}"])


def shipped() -> Path:
    """The folder with `recipes` and `data`: in an installed package, or in the clone that the package lies in."""
    inside = _PACKAGE / "shipped"
    return inside if inside.is_dir() else _PACKAGE.parent


def _known(name: str, found: dict[str, Path], what: str) -> str:
    if name not in found:
        otherwise = f"; there are {', '.join(found)}"
        raise UsageError(f"{name}: no such {what}{did_you_mean(name, found, otherwise)}")
    return name


def load_script(script: Path) -> ModuleType:
    """A script that comes with the package, as a module."""
    spec = importlib.util.spec_from_file_location(f"{script.parent.name}_{script.stem}", script)
    if spec is None or spec.loader is None or not script.is_file():
        raise UserError(f"{script} is not there: install the package, or run this in a clone of its repository")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
