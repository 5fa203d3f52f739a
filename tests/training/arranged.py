"""Tiny models of both families on random tokens, trained by as many processes as there are. As a script: several runs.

    arranged.py FOLDER WORK...

A work is MODEL:OPTIMIZER:RxSxT:UPDATES:NAME[:bfloat16][:again], whose run is FOLDER/NAME.
"""

import sys
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from transformer_zoo.config import DecoderConfig, EncoderDecoderConfig
from transformer_zoo.config.mixture import MixtureSpec
from transformer_zoo.data import Batch, TokenBatch
from transformer_zoo.data.windows import IGNORED
from transformer_zoo.models import build_model
from transformer_zoo.training import distributed
from transformer_zoo.training.config import (
    CheckpointConfig,
    OptimizerConfig,
    ParallelConfig,
    RunConfig,
    ScheduleConfig,
    TrainingConfig,
    ValidationConfig,
)
from transformer_zoo.training.loop import Trainer
from transformer_zoo.training.loss import total_nll
from transformer_zoo.training.task import Task
from transformer_zoo.training.tasks.objectives import GptObjective, TranslationObjective

T = 11
_GPT: dict[str, Any] = {"vocab_size": 53, "d_model": 24, "n_heads": 4, "d_ff": 38, "n_layers": 2, "max_seq_len": T}
_GPT["attention_dropout"] = 0.0
_PAIRS: dict[str, Any] = {"vocab_size": 20, "d_model": 12, "n_heads": 2, "d_ff": 22}
_PAIRS |= {"n_encoder_layers": 2, "n_decoder_layers": 1}
_MODERN = {"positions": "rotary", "n_kv_heads": 2, "head_dim": 10, "attention.qk_norm": "rmsnorm", "norm": "rmsnorm"}
MODELS: dict[str, Any] = {
    "gpt2": DecoderConfig.of(**_GPT),  # whose vocabulary cannot be halved
    "modern": DecoderConfig.of(**_GPT, **_MODERN, gated=True, vocab_multiple=16, tie_embeddings=False),
    "experts": DecoderConfig.of(**_GPT, layer=[{}, {"ffn": MixtureSpec(n_experts=3, n_active=2, d_ff=20)}]),
    "capped": DecoderConfig.of(**_GPT, vocab_multiple=16, logit_softcap=3.0, positions="alibi", sliding_window=4),
    "paper": EncoderDecoderConfig.of(**_PAIRS),
    "relative": EncoderDecoderConfig.of(**_PAIRS, positions="relative", share_embeddings="none", logit_bias=True),
    "padded": EncoderDecoderConfig.of(**_PAIRS, bos_id=0),
}


def windows(seed: int, *, rows: int) -> TokenBatch:
    """Random windows in which some targets do not count."""
    tokens = torch.randint(53, (rows, T + 1), generator=torch.Generator().manual_seed(seed))
    targets = tokens[:, 1:].clone()
    targets[:, ::9] = torch.where(tokens[:, :1] % 2 == 0, IGNORED, targets[:, ::9])
    return TokenBatch(tokens[:, :-1], targets, None, None, int((targets != IGNORED).sum()))


def pairs(seed: int, *, rows: int, bos_id: int) -> Batch:
    """Random pairs of different lengths, on both sides."""
    draw = torch.Generator().manual_seed(seed)
    source, target = (torch.randint(4, 20, (rows, n), generator=draw) for n in (7, T))
    lengths = [torch.randint(1, x.size(1) + 1, (rows, 1), generator=draw) for x in (source, target)]
    masks: list[Tensor] = [torch.arange(x.size(1)) < n for x, n in zip((source, target), lengths, strict=True)]
    source, target = (x.masked_fill(~mask, 0) for x, mask in zip((source, target), masks, strict=True))
    begun = torch.cat([torch.full((rows, 1), bos_id), target[:, :-1]], dim=1)
    return Batch(source, masks[0], begun, target, masks[1], int(masks[1].sum()))


def task_of(name: str) -> Task:
    """16 micro-batches of 2 to 4 rows in an epoch; the loss is measured on two more."""
    torch.manual_seed(3)
    model = build_model(MODELS[name])
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.05 * torch.randn_like(weight)
    is_gpt = model.kind == "a decoder-only model"
    objective = GptObjective(model) if is_gpt else TranslationObjective(model, label_smoothing=0.1)
    make = windows if is_gpt else partial(pairs, bos_id=model.config.bos_id)

    def load(seed: int) -> Any:
        return make(seed, rows=2 + seed % 3)

    def validate() -> dict[str, int | float]:
        total, n_tokens = total_nll(objective, [load(1), load(2)])
        return {"loss": total / n_tokens}

    def samples() -> list[str]:
        """By the inference side's own way: a forward pass and a cache."""
        begun = model.begin([[5, 7, 3]], 8)
        with torch.no_grad():
            return [str(model.logits(model.step(torch.tensor([[5]]), begun)).argmax().item())]

    return Task(
        model=model,
        objective=objective,
        plan=lambda epoch: [1000 * epoch + i for i in range(16)],
        load=load,
        validate=validate,
        samples=samples,
        data={"data.train": "random"},
        d_model=model.config.d_model,
    )


@dataclass(frozen=True)
class Work:
    """A run: R x S x T processes of `parallel`."""

    model: str
    optimizer: str
    parallel: tuple[int, ...]
    updates: int
    name: str
    more: tuple[str, ...] = ()

    @classmethod
    def of(cls, words: str) -> "Work":
        model, optimizer, parallel, updates, *more = words.split(":")
        return cls(model, optimizer, tuple(map(int, parallel.split("x"))), int(updates), more[0], tuple(more[1:]))

    def train(self, folder: Path) -> Trainer:
        """The run, for so many updates in all: it goes on where it is."""
        Path(folder / self.name).mkdir(parents=True, exist_ok=True)
        trainer = Trainer(task_of(self.model), config_of(self, folder))
        trainer.fit()
        return trainer


def config_of(work: Work, folder: Path) -> RunConfig:
    """Four micro-batches an update, shared by the readers; clipped, averaged, saved every 6."""
    replicate, shard, tensor = work.parallel
    return RunConfig(
        run_dir=str(folder / work.name),
        seed=11,
        device="cpu",
        precision="bfloat16" if "bfloat16" in work.more else "float32",
        compile="never",
        optimizer=OptimizerConfig(name=work.optimizer, lr=1e-3, weight_decay=0.1),  # type: ignore[arg-type]
        schedule=ScheduleConfig(name="constant", warmup=3),
        training=TrainingConfig(
            accumulate=4 // (replicate * shard),
            max_updates=work.updates,
            log_every=5,
            max_grad_norm=0.5,
            ema_decay=0.5,
            recompute=2 if "again" in work.more else 0,
        ),
        validation=ValidationConfig(every=10),
        checkpoint=CheckpointConfig(every=6, average_last=2, final_weights="average"),
        parallel=ParallelConfig(replicate=replicate, shard=shard, tensor=tensor),
    )


def check_divided(trainer: Trainer) -> None:
    """Between updates all processes together hold each number as often as they say, and none has gradients."""
    layout: Any = trainer.trained.layout
    assert all(weight.grad is None for held in trainer.parameters for weight in (held, layout.weights[held]))
    states = {p: state for part in trainer.optimizer.parts for p, state in part.state.items()}
    for held, average in zip(trainer.parameters, trainer.average.average, strict=True):
        moments = [value for value in states[held].values() if value.dim()]
        for value in (held, average, *moments):
            share = torch.tensor(value.numel() / layout.copies(held), dtype=torch.float64)
            assert abs(distributed.all_sum(share).item() - layout.shape(held).numel()) < 1e-6
    if trainer.arrangement.tensor == 1:
        whole = sum(layout.shape(held).numel() for held in trainer.parameters)
        assert sum(held.numel() for held in trainer.parameters) <= 1.1 * whole / trainer.arrangement.shard
    own = list(trainer.task.model.parameters())
    assert sum(weight.untyped_storage().nbytes() for weight in own) <= 8 * len(own)


def main(folder: Path, works: list[str]) -> None:
    for words in works:
        work = Work.of(words)
        trainer = work.train(folder)
        if trainer.arrangement.parts > 1:
            check_divided(trainer)


if __name__ == "__main__":
    sys.exit(distributed.run(lambda: main(Path(sys.argv[1]), sys.argv[2:])))
