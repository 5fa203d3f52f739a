"""Where a run can be followed besides its own files: TensorBoard, Weights & Biases and trackio, by one small
interface."""

import html
import importlib
import importlib.util
import secrets
import shlex
from pathlib import Path
from typing import Any, Protocol

from transformer_zoo.errors import UserError, first_line
from transformer_zoo.files import make_folder, open_own
from transformer_zoo.training.config import LoggingConfig, RunConfig
from transformer_zoo.training.fields import plain_fields

Number = int | float


class Tracker(Protocol):
    """A service that follows a run. `where` says where to look."""

    where: str

    def scalars(self, values: dict[str, Number], step: int) -> None:
        """Numbers of update `step`, by their names."""

    def text(self, name: str, text: str, step: int) -> None:
        """A text that is shown as it is."""

    def close(self) -> None:
        """Close it; nothing comes after this."""


class TensorBoard:
    """Event files in the run's folder. What a killed run wrote after update `step` is not shown."""

    def __init__(self, run_dir: Path, *, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter  # imports slowly

        folder = make_folder(run_dir, "tensorboard")
        self.where = f"curves and samples: tensorboard --logdir {shlex.quote(str(folder))}"
        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def scalars(self, values: dict[str, Number], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def text(self, name: str, text: str, step: int) -> None:
        # TensorBoard reads Markdown, which shows indented text unchanged.
        self._writer.add_text(name, "".join(f"    {line}\n" for line in text.split("\n")), step)

    def close(self) -> None:
        self._writer.close()


class Hosted:
    """A project of Weights & Biases, or of trackio, which has the same calls. A resumed run continues there.

    Raises:
        UserError: it cannot be opened, for example without a login.
    """

    def __init__(self, package: str, project: str, config: RunConfig) -> None:
        self._package = importlib.import_module(package)
        run_dir = Path(config.run_dir)
        name = _name_of(run_dir)
        self.where = f"curves and samples: {package}, project {project}, run {name}"
        more: dict[str, Any] = {"id": name, "dir": str(run_dir)} if package == "wandb" else {}
        try:
            self._package.init(project=project, name=name, config=plain_fields(config), resume="allow", **more)
        except Exception as error:  # each has its own
            raise UserError(f"logging.{package}: {first_line(error)}") from None

    def scalars(self, values: dict[str, Number], step: int) -> None:
        self._package.log(dict(values), step=step)

    def text(self, name: str, text: str, step: int) -> None:
        shown = f'<pre style="white-space: pre-wrap">{html.escape(text)}</pre>'
        self._package.log({name: self._package.Html(shown)}, step=step)

    def close(self) -> None:
        self._package.finish()


def open_trackers(config: RunConfig, *, step: int) -> list[Tracker]:
    """TensorBoard and what `logging` names, for a run at update `step`."""
    hosted = [Hosted(package, project, config) for package, project in _named(config.logging).items()]
    return [TensorBoard(Path(config.run_dir), step=step), *hosted]


def check_trackers(logging: LoggingConfig) -> None:
    """UserError: a package that `logging` names is not installed, or a project has no name."""
    for package, project in _named(logging).items():
        if not project:
            raise UserError(f"logging.{package} is empty: name a project, or leave it out")
        if importlib.util.find_spec(package) is None:
            raise UserError(f"logging.{package} needs a package: pip install 'transformer-zoo[{package}]'")


def _named(logging: LoggingConfig) -> dict[str, str]:
    return {package: project for package, project in vars(logging).items() if project is not None}


def _name_of(run_dir: Path) -> str:
    """The run's name there: its folder's name, and a number kept in the folder, which distinguishes copies and
    successors."""
    with open_own(run_dir / "tracked_as") as file:
        name = file.read().decode()
        if not name:
            name = f"{run_dir.resolve().name}-{secrets.token_hex(3)}"
            file.write(name.encode())
    return name
