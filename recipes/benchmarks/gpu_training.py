"""Parts 1 and 2 of gpu.py: tokens a second of training, and which share of the peak the model's operations use."""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from recipes.benchmarks.gpt_peers import load_nanogpt
from recipes.benchmarks.gpu_report import Figure
from recipes.benchmarks.gpu_rows import Case
from recipes.benchmarks.gpu_setting import NotHere, Setting, update
from recipes.benchmarks.speed import OURS, Contestant, compete
from recipes.benchmarks.translation_contestants import MARIAN, make_corpus, training_loss
from transformer_zoo.blocks import forward_flops
from transformer_zoo.config.changes import value_at
from transformer_zoo.data import batch_indices, collate
from transformer_zoo.errors import UserError
from transformer_zoo.training.config import OptimizerConfig, RunConfig, TrainingConfig
from transformer_zoo.training.loop import Trainer
from transformer_zoo.training.memory import StepMemory
from transformer_zoo.training.optimizer import make_optimizer
from transformer_zoo.training.task import Task
from transformer_zoo.training.tasks.objectives import GptObjective

Loss = Callable[[Any], Tensor]
NANOGPT = "nanoGPT"
ROUNDS, STEPS = 5, 4
OPTIMIZERS = {  # as in gpt2_124m.yaml and gpt_modern_124m.yaml
    "adamw": OptimizerConfig(name="adamw", lr=6e-4, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
    "muon": OptimizerConfig(name="muon", lr=3e-3, adam_lr=2e-3, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.1),
}


@dataclass(frozen=True)
class Trainee:
    """What is needed to train: the module, its mean loss of a batch, the optimizer, the batches."""

    module: nn.Module
    loss: Loss
    optimizer: Any
    batches: list[Any]

    def steps(self, setting: Setting, number: int) -> float:
        """Round `number`: some updates; how many tokens they were of."""
        self.module.train()
        count = setting.size(STEPS, 1)
        chosen = [self.batches[(max(number, 0) * count + i) % len(self.batches)] for i in range(count)]
        for batch in chosen:
            update(self.module, self.loss, self.optimizer, setting, batch)
        return float(sum(batch.n_tokens for batch in chosen))

    def speed(self, setting: Setting) -> float:
        """Tokens a second, the median of some rounds, compiled and warm."""
        tokens = self.steps(setting, 0)
        return tokens / setting.seconds(partial(self.steps, setting, 0), rounds=ROUNDS)


def language_trainee(case: Case, setting: Setting) -> tuple[Trainee, Any]:
    """Ours, compiled as a recipe compiles it; and the model."""
    changes = {} if case.layers is None else {"n_layers": case.layers}
    model = setting.model(case.preset, vocab_multiple=64, max_seq_len=case.length, **changes)
    objective = GptObjective(model)
    objective.compile()
    how = OPTIMIZERS[case.optimizer]
    optimizer = make_optimizer(model, how, lr=how.lr or 0.0, dtype=torch.bfloat16)
    windows, length = setting.size(case.windows, 2), setting.size(case.length, 32)
    batches = [setting.windows(windows, length, model.config.vocab_size, i) for i in range(2)]
    return Trainee(objective, lambda batch: objective(batch)[0] / batch.n_tokens, optimizer, batches), model


def language(setting: Setting, case: Case) -> Iterator[Figure]:
    """A language model of ours, alone."""
    yield from measured(*language_trainee(case, setting), setting, case)


def measured(ours: Trainee, model: Any, setting: Setting, case: Case) -> Iterator[Figure]:
    """Tokens a second, the share of the peak, and memory."""
    flops = 3 * forward_flops(model, setting.size(case.length, 32))  # of a token
    speed = ours.speed(setting)
    yield Figure("training", speed, "tokens/s", note=f"{case}; text: {setting.tokens[1]}")
    try:
        yield Figure("of the bfloat16 peak", 100 * speed * flops / setting.peak, "%", note=f"{flops:.4g} a token")
    except NotHere as reason:
        yield Figure("of the bfloat16 peak", unit="%", note=str(reason))
    windows, length = ours.batches[0].ids.shape
    run = RunConfig(run_dir="plan", optimizer=OPTIMIZERS[case.optimizer])
    counted = sum(StepMemory(model.config, run, length=length)(windows).values()) / 1e9
    yield Figure("memory, as it is counted", counted, "GB")
    if setting.device.type == "cuda":
        taken = torch.cuda.max_memory_allocated(setting.device) / 1e9
        yield Figure("memory taken, of what was counted", 100 * taken / counted, "%", 100, True, f"{taken:.2f} GB")


def beside_nanogpt(setting: Setting, case: Case) -> Iterator[Figure]:
    """`language`, then beside nanoGPT with the loop of its train.py: autocast, clipping, fused AdamW, compiled."""
    ours, model = language_trainee(case, setting)
    yield from measured(ours, model, setting, case)
    folder = setting.files / "nanogpt"
    if not (folder / "model.py").is_file():
        raise NotHere("nanogpt/model.py does not lie beside the script (docs/gpu_measure.md)")
    nanogpt, c = load_nanogpt(folder), model.config
    peer = nanogpt.GPT(
        nanogpt.GPTConfig(
            block_size=c.max_seq_len, vocab_size=c.padded_vocab_size, n_layer=c.decoder.n_layers,
            n_head=value_at(c, "n_heads"), n_embd=c.d_model, dropout=0.0, bias=value_at(c, "bias"),
        )
    ).to(setting.device)  # fmt: skip
    compiled: Any = torch.compile(peer)
    adam = peer.configure_optimizers(0.1, 6e-4, (0.9, 0.95), setting.device.type)
    theirs = Trainee(peer, lambda batch: compiled(batch.ids, batch.targets)[1], adam, ours.batches)
    yield from race({OURS: ours, NANOGPT: theirs}, setting, str(case))


def race(trainees: dict[str, Trainee], setting: Setting, note: str) -> Iterator[Figure]:
    """Tokens a second of each in alternation, and how many times the second's the first one's are."""
    contestants = [Contestant(name, "bfloat16", partial(one.steps, setting)) for name, one in trainees.items()]
    rows = compete(contestants, setting.size(ROUNDS, 1), "training", setting.device)
    for row in rows:
        yield Figure(
            f"{row.name}, in alternation", row.speed, "tokens/s", note=f"{row.lowest:,.0f} to {row.highest:,.0f}"
        )
    for row in rows[1:]:
        yield Figure(f"ours / {row.name}", row.ratio, note=note)


def translation_batches(setting: Setting) -> list[Any]:
    """Batches of 25,000 target tokens as in the paper, as the package cuts them, on the device."""
    budget = setting.size(25_000, 256)
    corpus = make_corpus(setting.size(60_000, 200), setting.size(26, 8), setting.size(37_000, 131), 1)
    lengths = corpus.source_lengths, corpus.target_lengths
    cut = batch_indices(*lengths, batch_tokens=budget, seed=1, epoch=0)
    full = [indices for indices in cut if lengths[1][indices].sum() > 0.8 * budget]
    return [collate(corpus, indices).to(setting.device) for indices in full[:8]]


def translation_model(setting: Setting, **changes: Any) -> Any:
    """transformer-base as Marian's class has it too."""
    return setting.model("transformer-base", **{"positions.layout": "halves", "dropout": 0.1, **changes})


def translation_trainee(name: str, model: Any, batches: list[Any], setting: Setting, compiled: bool) -> Trainee:
    """Ours or Marian's class, with the same weights and fused Adam."""
    options = argparse.Namespace(device=setting.device, compile=compiled)
    module, loss = training_loss(name, model, options)
    adam = torch.optim.Adam(module.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, fused=True)
    return Trainee(module, lambda batch: loss(batch) / batch.n_tokens, adam, batches)


def translation(setting: Setting, compiled: bool) -> Iterator[Figure]:
    """transformer-base, 25,000 target tokens an update, beside Marian's class: both compiled, or both not."""
    model, batches = translation_model(setting), translation_batches(setting)
    shapes = len({(batch.source.shape, batch.target_in.shape) for batch in batches})
    words = f"{sum(b.n_tokens for b in batches) / len(batches):,.0f} target tokens an update, {shapes} shapes"
    ours = translation_trainee(OURS, model, batches, setting, compiled)
    yield Figure("training", ours.speed(setting), "tokens/s", note=words)
    try:
        theirs = translation_trainee(MARIAN, model, batches, setting, compiled)
    except UserError as reason:
        raise NotHere(str(reason)) from None
    yield from race({OURS: ours, MARIAN: theirs}, setting, words)


def recorded(setting: Setting) -> Iterator[Figure]:
    """gpt-char by the trainer, compiled as a recipe compiles it: launched kernel by kernel, and as CUDA graphs."""
    here, updates = replace(setting, device=torch.device("cpu")), setting.size(160, 4)
    batch = here.windows(setting.size(64, 2), setting.size(256, 16), 65)  # as many as it has characters
    speeds = {}
    for graphs in ("never", "auto"):
        model = here.model("gpt-char", max_seq_len=256)
        task = Task(
            model=model, objective=GptObjective(model), plan=lambda epoch: range(8), load=lambda number: batch,
            validate=lambda: {"loss": 0.0}, samples=list, data={}, d_model=model.config.d_model,
        )  # fmt: skip
        with TemporaryDirectory() as folder:
            config = RunConfig(
                run_dir=folder, device=setting.device.type, cuda_graphs=graphs, optimizer=OPTIMIZERS["adamw"],
                training=TrainingConfig(max_updates=updates, log_every=updates // 2),
            )  # fmt: skip
            Trainer(task, config).fit()
            lines = map(json.loads, (Path(folder) / "metrics.jsonl").read_text("utf-8").splitlines())
            speeds[graphs] = [line["tokens_per_second"] for line in lines if line["kind"] == "train"][-1]
        yield Figure(f"cuda_graphs: {graphs}", speeds[graphs], "tokens/s", note=f"{batch.n_tokens:,} tokens an update")
    yield Figure("with / without", speeds["auto"] / speeds["never"])
