"""Speed compared with other people's GPTs: of training, of generation, of a whole recipe.

    python recipes/benchmarks/gpt.py --nanogpt DIR [--tables training generation recipe]

It needs `pip install -e '.[benchmark]'`. DIR is a clone of github.com/karpathy/nanoGPT, which is not a package; without
it the training table has Hugging Face's GPT-2 alone. `--tables recipe` runs two whole programs in alternation:
nanoGPT's train.py with its README's command line for a CPU, and ours with shakespeare_char_cpu.yaml. All others run in
this process, in alternation, from the same weights. A ratio is the median over the rounds of ours / peer within a
round, so that other work of the machine affects both.
"""

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace
from torch import Tensor, nn
from tqdm import tqdm

if not __package__:  # instead of this folder, whose kernels.py others would take for a package
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from recipes.benchmarks.gpt_peers import to_hugging_face, to_nanogpt
from recipes.benchmarks.options import parsed
from recipes.benchmarks.speed import OURS, Contestant, Table, compare, compete, machine, report
from transformer_zoo.config import DecoderConfig, Sampling
from transformer_zoo.data import TokenBatch
from transformer_zoo.errors import UserError
from transformer_zoo.inference import Speculation, draft_of, generate, pack
from transformer_zoo.models import DecoderOnly
from transformer_zoo.training.device import choose_device, choose_precision, tune_malloc
from transformer_zoo.training.tasks.objectives import GptObjective
from transformer_zoo.zoo import get_config

NANOGPT, HUGGING_FACE = "nanoGPT", "Hugging Face GPT2LMHeadModel"


def parse_options(arguments: Sequence[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description="Speed of training and of generation beside other implementations.")
    add: Callable[..., Any] = parser.add_argument
    tables, precisions = ["training", "generation", "recipe"], ["float32", "bfloat16"]
    add("--nanogpt", default=None, type=str | None, help="folder of a clone of nanoGPT")
    add("--tables", nargs="+", choices=tables, default=tables[:2], help="what to measure")
    add("--precision", nargs="+", choices=precisions, default=precisions, help="training: autocast; else the weights")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of everybody")
    add("--compile", type=bool, default=False, help="torch.compile in training, for everybody")
    add("--seed", type=int, default=0, help="seed of weights and tokens")
    add("--preset", default="gpt2", help="shape of both tables: one with GPT-2's structure")
    add("--batch-size", type=int, default=4, help="windows of a training batch")
    add("--length", type=int, default=256, help="tokens of a window")
    add("--rounds", type=int, default=5, help="rounds of each table")
    add("--steps", type=int, default=2, help="updates of each in a round")
    add("--generation-batches", type=int, nargs="+", default=[1, 8], help="prompts written to at once")
    add("--prompt-tokens", type=int, default=32, help="tokens of a prompt")
    add("--new-tokens", type=int, default=128, help="tokens written after it")
    add("--updates", type=int, default=600, help="updates of each program of the recipe table, a multiple of 100")
    add("--json", default=None, type=str | None, help="also write the results to this file")
    options = parsed(parser, arguments)
    options.device = choose_device(options.device)
    return options


def build(options: Namespace) -> DecoderOnly:
    """The preset without dropout, which the implementations have in different places, and with nanoGPT's exact GELU."""
    torch.manual_seed(options.seed)
    config = get_config(options.preset, dropout=0.0, attention_dropout=0.0, activation="gelu")
    if not isinstance(config, DecoderConfig) or config.longest_input != config.max_seq_len or not config.tie_embeddings:
        raise UserError(f"--preset {options.preset}: the peers have GPT-2's structure only")
    return DecoderOnly(config).to(options.device)


Loss = Callable[[TokenBatch], Tensor]


def training_losses(model: DecoderOnly, options: Namespace) -> dict[str, tuple[nn.Module, Loss]]:
    """Each implementation, and its mean loss of a batch."""
    objective = GptObjective(model)
    hugging_face = to_hugging_face(model)
    losses: dict[str, Any] = {
        OURS: (objective, lambda batch: objective(batch)[0] / batch.n_tokens),
        HUGGING_FACE: (hugging_face, lambda batch: _cross_entropy(hugging_face(batch.ids, use_cache=False), batch)),
    }
    if options.nanogpt is not None:
        nanogpt = to_nanogpt(model, options.nanogpt)
        losses[NANOGPT] = (nanogpt, lambda batch: nanogpt(batch.ids, batch.targets)[1])
    if options.compile:
        objective.compile()
        losses = {
            name: (module, loss if name == OURS else torch.compile(loss)) for name, (module, loss) in losses.items()
        }
    return losses


def _cross_entropy(output: Any, batch: TokenBatch) -> Tensor:
    return nn.functional.cross_entropy(output.logits.flatten(0, 1).float(), batch.targets.flatten())


def training_table(options: Namespace) -> Table:
    """Tokens a second of whole updates."""
    model = build(options)
    shape = options.batch_size, options.length + 1
    tokens = torch.randint(model.config.vocab_size, shape, device=options.device)  # (B, T + 1)
    n = options.batch_size * options.length
    batch = TokenBatch(tokens[:, :-1].contiguous(), tokens[:, 1:].contiguous(), None, None, n)

    def run(module: nn.Module, loss: Any, optimizer: Any, precision: str, number: int) -> float:
        module.train()
        for _ in range(options.steps):
            with torch.autocast(options.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                value = loss(batch)
            value.backward()
            nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return float(n * options.steps)

    contestants = []
    for name, (module, loss) in training_losses(model, options).items():
        adam = torch.optim.AdamW(module.parameters(), lr=1e-5, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
        contestants += [
            Contestant(name, precision, partial(run, module, loss, adam, precision)) for precision in options.precision
        ]
    rows = compete(contestants, options.rounds, "training", options.device)
    notes = [
        f"{options.preset}, no dropout, batches of {options.batch_size} by {options.length}",
        f"{options.rounds} rounds of {options.steps} updates; fused AdamW and clipping for all; "
        f"compiled: {'all' if options.compile else 'none'}",
    ]
    return Table("Training", "tokens/s", notes, rows)


def generation_table(options: Namespace, batch_size: int) -> Table:
    """Tokens a second of greedy writing after a prompt, the prompt's reading included."""
    model = build(options).eval()
    hugging_face = to_hugging_face(model).eval()
    prompt = torch.randint(model.config.vocab_size, (batch_size, options.prompt_tokens), device=options.device)

    @torch.inference_mode()
    def ours(module: DecoderOnly, number: int, **guess: Any) -> float:
        how: Any = {"max_new_tokens": options.new_tokens, "ignore_eos": True, "speculation": Speculation(**guess)}
        return float(sum(map(len, generate(module, prompt, Sampling(temperature=0), **how))))

    @torch.inference_mode()
    def theirs(module: Any, number: int, **changes: int) -> float:
        module.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=options.new_tokens,
            min_new_tokens=options.new_tokens, pad_token_id=0, **changes,
        )  # fmt: skip
        return float(batch_size * options.new_tokens)

    contestants = []
    for precision in options.precision:
        mine, peer = (
            copy.deepcopy(module).to(options.device, getattr(torch, precision)) for module in (model, hugging_face)
        )
        draft = draft_of(mine)
        if batch_size >= 4 or draft is not None:  # as the commands do it
            mine = pack(mine)
        runs = [(OURS, partial(ours, mine, draft=draft)), (HUGGING_FACE, partial(theirs, peer))]
        if batch_size == 1:
            runs.insert(1, (f"{OURS}, lookup=0", partial(ours, mine, draft=draft, lookup=0)))
            runs.insert(2, (f"{OURS}, lookup=0, no draft", partial(ours, mine, lookup=0)))
            name = f"{HUGGING_FACE}, prompt_lookup_num_tokens=8"
            runs.append((name, partial(theirs, peer, prompt_lookup_num_tokens=8)))
        contestants += [Contestant(name, precision, run) for name, run in runs]
    rows = compete(contestants, options.rounds, f"generation, batch {batch_size}", options.device)
    notes = [
        f"{options.preset} with random weights, greedy, {options.new_tokens} tokens after {options.prompt_tokens}",
        f"{options.rounds} rounds of {batch_size} prompts; bfloat16: the weights",
    ]
    if batch_size == 1:
        notes.append("random weights write the same token again and again: no text is easier to guess")
    return Table(f"Generation, batch {batch_size}", "tokens/s", notes, rows)


# From nanoGPT's README, "I only have a macbook", except that evaluations come only after the last update.
NANOGPT_ON_A_CPU = [
    "config/train_shakespeare_char.py", "--device=cpu", "--compile=False", "--eval_iters=1", "--log_interval=1",
    "--block_size=64", "--batch_size=12", "--n_layer=4", "--n_head=4", "--n_embd=128", "--dropout=0.0",
    "--eval_interval=1000000",
]  # fmt: skip


def recipe_table(options: Namespace) -> Table:
    """Tokens a second of the updates of two whole programs, from what they print; start and evaluations left out."""
    if options.nanogpt is None or not (Path(options.nanogpt) / "data/shakespeare_char/train.bin").is_file():
        raise UserError("--tables recipe needs --nanogpt DIR, where data/shakespeare_char/prepare.py was run")
    here, updates = Path(__file__).parents[1] / "gpt", options.updates

    def nanogpt() -> float:
        changes = [f"--max_iters={updates}", f"--lr_decay_iters={updates}"]
        printed = _output([sys.executable, "train.py", *NANOGPT_ON_A_CPU, *changes], options.nanogpt)
        times = [float(time) for time in re.findall(r"^iter [1-9].* time ([0-9.]+)ms", printed, re.MULTILINE)]
        return 12 * 64 * len(times) / (sum(times) / 1000)  # all but update 0, which loads and evaluates

    def ours(precision: str) -> float:
        with TemporaryDirectory() as folder:
            changes = ["--run_dir", folder, "--training.max_updates", str(updates), "--validation.every", "1000000"]
            recipe = [str(here / "shakespeare_char_cpu.yaml"), *changes, "--precision", precision]
            _output([sys.executable, str(here / "train.py"), *recipe], ".")
            lines = [json.loads(line) for line in (Path(folder) / "metrics.jsonl").read_text().splitlines()]
        trained = [line for line in lines if line["kind"] == "train"]
        tokens = [0, *(line["tokens"] for line in trained)]  # all so far
        spent = ((b - a) / line["tokens_per_second"] for (a, b), line in zip(pairwise(tokens), trained, strict=True))
        return float(tokens[-1] / sum(spent))

    runs: dict[tuple[str, str], Callable[[], float]] = {(OURS, "as it ships"): partial(ours, "auto")}
    shipped = choose_precision("auto", torch.device("cpu"))
    if shipped != torch.float32:
        runs[OURS, "float32"] = partial(ours, "float32")
    runs["nanoGPT's train.py", "as it ships"] = nanogpt
    speeds: list[list[float]] = [[] for _ in runs]
    with tqdm(total=len(runs) * options.rounds, desc="recipe", disable=None, leave=False) as bar:
        for number in range(options.rounds):
            order = list(zip(runs.values(), speeds, strict=True))
            for run, measured in order if number % 2 else reversed(order):
                measured.append(run())
                bar.update()
    notes = [
        f"shakespeare_char_cpu.yaml beside nanoGPT's own train.py: {updates} updates of 12 by 64",
        f"as it ships, ours computes in {str(shipped).removeprefix('torch.')} on this CPU, theirs in float32 on any",
        f"{options.rounds} rounds; the mean over the updates of a run",
    ]
    return Table("The recipe for a CPU", "tokens/s", notes, compare(list(runs), speeds))


def _output(command: list[str], folder: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"{' '.join(command)} failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    return done.stdout


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and write."""
    options = parse_options(arguments)
    torch.set_num_threads(options.threads)
    described = machine(options.device)
    described["malloc"] = "tuned for all" if tune_malloc() else "as the system has it, for all"
    makers: list[Callable[[], Table]] = [partial(training_table, options)] if "training" in options.tables else []
    if "generation" in options.tables:
        makers += [partial(generation_table, options, size) for size in options.generation_batches]
    if "recipe" in options.tables:
        makers.append(partial(recipe_table, options))
    report(described, (make() for make in makers), options.as_dict(), options.json)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
