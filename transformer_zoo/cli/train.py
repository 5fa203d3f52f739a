"""`transformer-zoo train`: by a recipe, or by text alone, for which a recipe is chosen and written."""

import os
import shlex
import sys
from pathlib import Path

from jsonargparse.typing import NonNegativeInt, PositiveFloat

from transformer_zoo.cli.scoring import refuse_beside
from transformer_zoo.cli.shipped import load_script, shipped
from transformer_zoo.cli.unsplit import Prepared, prepare_pairs, prepare_text
from transformer_zoo.errors import UsageError, UserError
from transformer_zoo.files import write_text
from transformer_zoo.training.choosing import USED, Section, amount_of, language, translation


def train(
    recipe: str = "",
    /,
    *options: str,
    text: list[Path] = [],  # noqa: B006  (it is only read)
    pairs: list[Path] = [],  # noqa: B006
    from_: str | None = None,
    to: str | None = None,
    minutes: PositiveFloat | None = None,
    output: Path | None = None,
    seed: NonNegativeInt | None = None,
    write_only: bool = False,
) -> None:
    """Train a translator or a GPT on your text; or follow a recipe, from text to a run with weights and scores.

    With --pairs or --text the settings are chosen by the amount of text, the speed of the machine and --minutes. Some
    of the text is held out, without leaks. A recipe is written beside the run; it repeats the run and can be changed.
    `transformer-zoo recipes` has some to start from. The same command resumes a run that was stopped. On N GPUs:
    torchrun --nproc-per-node N -m transformer_zoo train RECIPE.yaml

    Args:
        recipe: A YAML file, instead of --pairs or --text.
        options: Fields of the recipe to change, as --section.field value; --help after the recipe explains them.
        text: Text to train a GPT on: folders, or files, plain or .gz, or JSON lines with the key text.
        pairs: Text to train a translator on: a file with a tab between the two sides, two files whose lines belong
            together, or JSON lines with the keys source and target; plain or .gz.
        from_: Code of the language to translate from, such as en. For two files the default is the ending of the first
            one's name.
        to: Code of the language to translate to, in the same form.
        minutes: How long to train; by default 15.
        output: Folder of the run; by default runs/NAME, after the name of the text. NAME.yaml and NAME_split with the
            text are written beside it.
        seed: Another seed gives another run of the same recipe; by default 1.
        write_only: Split the text and write the recipe, and do not train.

    Examples:
        transformer-zoo train --pairs pairs.tsv --from en --to de
        transformer-zoo train --text folder/ --minutes 30
        transformer-zoo train recipe.yaml --training.max_minutes 60
    """
    languages = {"--from": from_, "--to": to}
    options_given = {**languages, "--minutes": minutes, "--seed": seed}
    if recipe:
        flags = {**options_given, "--text": text or None, "--pairs": pairs or None, "--output": output}
        beside = {name: value is not None for name, value in flags.items()} | {"--write-only": write_only}
        refuse_beside(f"a recipe ({recipe})", [], beside)
        return _train(recipe, *options)
    if bool(text) == bool(pairs):
        raise UsageError("give --pairs, or --text, or a recipe: one of them")
    if text and any(languages.values()):
        raise UsageError("--from and --to are for --pairs")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("several processes train by a recipe: call this once with --write-only, then torchrun with it")
    folder = output or Path("runs") / (text or pairs)[0].resolve().name.partition(".")[0]
    if folder.name in ("", ".."):
        raise UsageError(f"--output {output}: name a folder for the run, which need not be there")
    path, command = folder.with_name(f"{folder.name}.yaml"), _command(text, pairs, options_given)
    if not _is_of(path, command):
        split = folder.with_name(f"{folder.name}_split")
        prepared = prepare_text(text, split) if text else prepare_pairs(pairs, from_, to, split)
        start = [Section("run_dir", str(folder)), Section("seed", 1 if seed is None else int(seed))]
        _write_recipe(path, command, start, prepared, float(minutes or 15))
    quoted = shlex.quote(str(path))
    print(f"{path}: once more with: transformer-zoo train {quoted} --run_dir {folder}_again", flush=True)
    if not write_only:
        _train(str(path))


def _train(recipe: str, *options: str) -> None:
    from transformer_zoo.commandline import read_yaml
    from transformer_zoo.training import distributed
    from transformer_zoo.training.tasks.kinds import kind_of_recipe

    kind = kind_of_recipe(read_yaml(recipe))
    script = load_script(shipped() / kind.recipes / "train.py")
    if status := distributed.run(lambda: script.main([recipe, *options])):
        sys.exit(status)


def _command(text: list[Path], pairs: list[Path], options: dict[str, object]) -> str:
    """The first line of a written recipe: the command, except for the run's name."""
    given = [word for name, value in options.items() if value is not None for word in (name, f"{value}")]
    return f"# transformer-zoo train {shlex.join(['--text' if text else '--pairs', *map(str, text or pairs), *given])}"


def _is_of(path: Path, command: str) -> bool:
    """Whether this very command wrote the recipe, which is then resumed; UserError: another command wrote it."""
    if not path.exists():
        return False
    if path.read_text("utf-8").partition("\n")[0] != command:
        raise UserError(f"{path} is there already: give another --output, or resume it: transformer-zoo train {path}")
    return True


def _speed() -> tuple[float, int]:
    """Operations per second in training, and how many tokens a micro-batch may have."""
    from transformer_zoo.training.device import choose_device
    from transformer_zoo.training.speed import operations_a_second

    print("how fast does this machine train?", end=" ", flush=True)
    device = choose_device("auto")
    speed = operations_a_second(device)
    print(f"{speed / 1e9:,.0f} billion operations a second on {device}", flush=True)
    return speed, 16384 if device.type == "cuda" else 4096


def _write_recipe(path: Path, command: str, start: list[Section], text: Prepared, minutes: float) -> None:
    speed, said = _speed(), text.split()
    make = translation if text.is_translation else language
    operations = speed[0] * 60 * minutes * USED
    chosen = [*start, *make(text.data, amount_of(text.train()), operations, minutes, speed[1])]
    print(said)
    for section in chosen:
        if section.why:
            print(f"{section.name}: {section.why}")
    about = f"# {said}\n# {speed[0] / 1e9:,.0f} billion operations a second in training, on the machine of then"
    write_text(path, "\n".join([command, about, *(section.yaml.rstrip("\n") for section in chosen)]) + "\n")
