"""One run of a recipe: what all recipes do alike, from the command line to the finished run."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Generic, Self

import torch

from transformer_zoo.commandline import parse_recipe
from transformer_zoo.errors import naming
from transformer_zoo.models.empty import n_parameters
from transformer_zoo.runs.exporting import check_export, export_run
from transformer_zoo.runs.folder import check_run, is_finished, mark_finished, open_run
from transformer_zoo.runs.model_json import ModelJson, write_model_json
from transformer_zoo.runs.start import Start, check_kind, is_going_on, start_from
from transformer_zoo.training import distributed
from transformer_zoo.training.device import choose_device
from transformer_zoo.training.fields import defaults_of, plain_fields
from transformer_zoo.training.logging import in_words
from transformer_zoo.training.loop import Trainer
from transformer_zoo.training.memory import check_training
from transformer_zoo.training.parallel import arrange
from transformer_zoo.training.task import Task
from transformer_zoo.training.tasks.kind import C, Kind, M, R, T
from transformer_zoo.training.trackers import check_trackers
from transformer_zoo.zoo import get_config


class Session(Generic[R, C, T, M]):
    """A run that a command line asks for. Everything is checked before anything is written; the folder is unlocked at
    the end.

    `begin`, `open`, `tokenizer`, `model`, `train`, `finish` are called in this order, in every process of the run.

    Args:
        kind: Kind of the model.
        arguments: The command line: `RECIPE.yaml [--section.field value ...]`.

    Raises:
        UserError: a field of the recipe is wrong, the device does not exist, or the folder cannot be used.
    """

    def __init__(self, kind: Kind[R, C, T, M], arguments: Sequence[str]) -> None:
        self.kind: Kind[R, C, T, M] = kind
        self.recipe = parse_recipe(kind.recipe, arguments)
        self.run_dir, self.world = Path(self.recipe.run_dir), distributed.world()
        self.say: Callable[..., None] = print if self.world.main else (lambda *words: None)
        self.start: Start[C, T] | None = None
        self.results: dict[str, Any] = {}
        self._texts: dict[str, str] = {}
        self._plain, self._held = plain_fields(self.recipe), ExitStack()
        self.recipe.validate()
        check_trackers(self.recipe.logging)
        # Does the preset exist, and do the fields fit it?
        if is_new := self.recipe.model.init_from is None:
            with naming("model.preset"):
                preset = self.recipe.model.preset
                check_kind(kind, get_config(preset), preset)
        self._expected: C | None = kind.model_config(self.recipe, None, None) if is_new else None
        recipe: Any = self.recipe  # each kind of model has its own field
        self._check_export(self._expected, recipe.tokenizer)
        arrange(self.recipe.parallel, self.world, 0)  # which refuses a wrong number of processes
        self.device = choose_device(self.recipe.device, self.world.local_rank)
        check_run(self.run_dir, self._plain, defaults_of(kind.recipe))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    @property
    def main(self) -> bool:
        """Whether this process writes the run's folder."""
        return self.world.main

    def begin(self, tests: Mapping[str, str] | None = None) -> bool:
        """Join the processes and read what training starts from. If the run is finished, print a line and return False.

        Args:
            tests: Checksums of the texts that the run is tested on, by the names of their fields.

        Raises:
            UserError: the model does not fit into memory, processes do not find each other, or training cannot start
                from `model.init_from`.
        """
        if is_finished(self.run_dir, self._plain, dict(tests or {})):
            self.say(f"{self.run_dir} is finished, see results.json; to train on, raise its limit")
            return False
        if self._expected is not None:
            self._check_model(self._expected)
        distributed.start(self.world, self.device)
        self.start = start_from(self.kind, self.recipe, self.run_dir)
        if self.start is not None:
            self._check_export(self.start.config, self.start.tokenizer)
        return True

    def _check_model(self, config: C) -> None:
        """Whether it can be divided as the recipe asks, and fits the memory then."""
        arrangement = arrange(self.recipe.parallel, self.world, n_parameters(config))
        if arrangement.tensor > 1:
            from transformer_zoo.training.sharded import check_cut

            check_cut(config, arrangement.tensor)
        check_training(config, self.recipe, self.device, parts=arrangement.parts)

    def _check_export(self, config: C | None, tokenizer: Any) -> None:
        if self.recipe.export is not None and config is not None:
            with naming("export"):
                check_export(self.recipe.export, config, tokenizer)

    def open(self, texts: Callable[[], dict[str, str]]) -> None:
        """Make or open the folder and lock it; `texts` gives the checksums of its texts, by their fields."""
        with distributed.first() as mine:
            if mine:
                self._held.enter_context(open_run(self.run_dir, self._plain, texts()))

    def tokenizer(self, train: Callable[[], T]) -> T:
        """The tokenizer of the resumed run, or of the model that it starts from; otherwise the first process trains
        one."""
        folder = self.run_dir / "tokenizer"
        with distributed.first() as mine:
            if mine and not is_going_on(self.run_dir):
                (train() if self.start is None else self.start.tokenizer).save(folder)
        return self.kind.load_tokenizer(folder)

    def model(self, tokenizer: T) -> M:
        """The model, with the weights that training starts from."""
        start = self.start
        config = self.kind.model_config(self.recipe, tokenizer, None if start is None else start.config)
        self._check_model(config)
        torch.manual_seed(self.recipe.seed)
        model = self.kind.model(config)
        if start is not None:
            start.load_into(model)
        return model

    def train(self, task: Task) -> None:
        """Train until a limit is reached, and validate the final weights.

        Raises:
            KeyboardInterrupt: a signal stopped training; the same command resumes it.
        """
        trainer = Trainer(task, self.recipe, world=self.world)
        if self.main:
            about = ModelJson(task.model.config, task.max_source_tokens, task.tokenizer)  # type: ignore[arg-type]
            write_model_json(self.run_dir, about)
        self.say(f"{trainer.how}; run folder {self.run_dir}")
        reason, step = trainer.fit(), trainer.progress.step
        if reason == "signal":
            self.say(f"stopped at update {step}; the same command goes on from there")
            raise KeyboardInterrupt  # the exit status, so that steps after a finished run do not start yet
        self.say(f"training ended at update {step} ({reason})")
        if self.main:
            metrics = trainer.validate_final()
            self.say(f"validation, final weights: {in_words(metrics)}")
            self.results = {"step": step, "ended_by": reason, "validation": metrics}
            self._texts = task.data

    def finish(self, more: Callable[[], dict[str, Any]] = dict) -> None:
        """Write results.json, in the first process: how training ended, and `more`."""
        if self.main:
            more_results = more()
            if self.recipe.export is not None:
                self.say(f"for {self.recipe.export}: {export_run(self.run_dir, self.recipe.export)}")
            mark_finished(self.run_dir, self._plain, self._texts, {**self.results, **more_results})
            self.say(self.kind.use.format(self.run_dir))
