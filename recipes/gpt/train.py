"""Trains a GPT on any text, and says how many bits a byte of held-out text takes it.

    python recipes/gpt/train.py recipes/gpt/shakespeare_char_cpu.yaml [--optimizer.lr 0.001 ...]

Read from `main` on: text -> tokenizer -> token shards -> windows -> model -> training -> perplexity. The same command
goes on with a run that was stopped. `torchrun --nproc-per-node N recipes/gpt/train.py ...` trains on N GPUs.
"""

import dataclasses
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import chain
from pathlib import Path
from typing import cast

import torch

from transformer_zoo.config import DecoderConfig
from transformer_zoo.data import (
    TextTokenizer,
    TokenShards,
    Windows,
    load_text_tokenizer,
    make_text_tokenizer,
    prepare_shards,
)
from transformer_zoo.errors import UserError, run_program
from transformer_zoo.generation import generate
from transformer_zoo.models import DecoderOnly
from transformer_zoo.models.flops import forward_flops
from transformer_zoo.training import distributed
from transformer_zoo.training.checkpoint import load_weights, save_model_config
from transformer_zoo.training.device import choose_device
from transformer_zoo.training.folder import check_run, is_finished, mark_finished, open_run
from transformer_zoo.training.gpt import GptObjective, GptRecipe, text_metrics
from transformer_zoo.training.loop import Task, Trainer
from transformer_zoo.training.options import parse_recipe
from transformer_zoo.zoo import get_config

Say = Callable[..., None]


def main(arguments: list[str]) -> None:
    """One run: everything is checked before anything is written."""
    recipe, plain = parse_recipe(GptRecipe, arguments)
    run_dir, here = Path(recipe.run_dir), distributed.world()
    say: Say = print if here.main else (lambda *words: None)
    recipe.validate()
    model_config(recipe)  # is there such a preset, do the fields fit?
    device = choose_device(recipe.device, here.local_rank)
    check_run(run_dir, plain)
    if is_finished(run_dir, plain):
        return say(f"{run_dir} is finished, see results.json; to train on, raise its limit")
    distributed.start(here, device)
    with open_run(run_dir, plain) if here.main else nullcontext():
        tokenizer = get_tokenizer(recipe, run_dir)
        train, validation = get_tokens(recipe, tokenizer, run_dir)
        say(f"{tokenizer.name}: {train.n_tokens:,} training tokens, {validation.n_tokens:,} for validation")
        task = make_task(recipe, tokenizer, train, validation)
        trainer = Trainer(task, recipe, world=here)
        if here.main:
            config = model_config(recipe, tokenizer)
            save_model_config(run_dir, "decoder-only", config, tokenizer=tokenizer.fingerprint)
        size = sum(p.numel() for p in task.model.parameters())
        say(f"{size:,} parameters on {device}, {trainer.dtype}, processes: {here.size}; run folder {run_dir}")
        reason, step = trainer.fit(), trainer.progress.step
        if reason == "signal":
            return say(f"stopped at update {step}; the same command goes on from there")
        say(f"training ended at update {step} ({reason})")
        if here.main:
            task.model.load_state_dict(load_weights(run_dir / "model.safetensors"))
            metrics = task.validate()
            say("validation, final weights: " + "  ".join(f"{name} {value:.4f}" for name, value in metrics.items()))
            mark_finished(run_dir, plain, {"step": step, "ended_by": reason, "validation": metrics})
            say(f"write with: transformer-zoo generate {run_dir}")


def get_tokenizer(recipe: GptRecipe, run_dir: Path) -> TextTokenizer:
    """The tokenizer of a run that goes on; for a new one the first process makes it."""
    folder = run_dir / "tokenizer"
    if distributed.world().main and not (run_dir / "checkpoints" / "last.pt").exists():
        texts = recipe.data.train.texts()
        if recipe.tokenizer.kind == "characters":  # they refuse what they have never seen
            texts = chain(texts, recipe.data.validation.texts())
        make_text_tokenizer(recipe.tokenizer, texts).save(folder)
    distributed.barrier()
    return load_text_tokenizer(folder)


def get_tokens(recipe: GptRecipe, tokenizer: TextTokenizer, run_dir: Path) -> tuple[TokenShards, TokenShards]:
    """The tokens of both texts; the first process makes those that are not there yet."""
    data = recipe.data
    folder = Path(data.tokens) if data.tokens else run_dir / "tokens"
    texts = {"train": data.train, "validation": data.validation}
    if distributed.world().main:
        for split, files in texts.items():
            prepare_shards(files, tokenizer, folder, split, workers=data.workers)
    distributed.barrier()
    train, validation = (TokenShards(folder, split, tokenizer) for split in texts)
    return train, validation


def model_config(recipe: GptRecipe, tokenizer: TextTokenizer | None = None) -> DecoderConfig:
    """The preset with the recipe's changes, and the tokenizer's vocabulary."""
    changes = {name: value for name, value in dataclasses.asdict(recipe.model).items() if value is not None}
    preset = changes.pop("preset")
    if recipe.data.length is not None:  # past it the model learns nothing, so it is never to read more
        changes.setdefault("max_seq_len", recipe.data.length)
    if tokenizer is not None:
        changes |= {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id}
    if not isinstance(get_config(preset), DecoderConfig):
        raise UserError(f"model.preset: {preset} is an encoder-decoder; train it with recipes/translation/train.py")
    config = cast(DecoderConfig, get_config(preset, **changes))
    length = recipe.data.length or config.max_seq_len
    if config.positions == "learned" and length > config.max_seq_len:
        raise UserError(f"data.length {length} is more than the {config.max_seq_len} positions that are learned")
    if recipe.training.batch_tokens < length:
        raise UserError(f"training.batch_tokens {recipe.training.batch_tokens} is less than a window of {length}")
    return config


def make_task(recipe: GptRecipe, tokenizer: TextTokenizer, train: TokenShards, validation: TokenShards) -> Task:
    """Windows, model, loss and validation: what the trainer needs to know about language models."""
    config = model_config(recipe, tokenizer)
    length = recipe.data.length or config.max_seq_len
    windows, held_out = (
        Windows(shards, length, packed_documents=recipe.data.packed_documents) for shards in (train, validation)
    )
    batch_size = recipe.training.batch_tokens // length
    torch.manual_seed(recipe.seed)
    model = DecoderOnly(config)
    model.decoder.recompute = recipe.training.recompute
    objective = GptObjective(model)
    return Task(
        model=model,
        objective=objective,
        plan=partial(windows.plan, batch_size=batch_size),
        load=partial(windows.load, batch_size=batch_size, seed=recipe.seed),
        validate=lambda: text_metrics(objective, held_out.evaluation(batch_size=batch_size), validation.n_bytes),
        samples=partial(write_samples, recipe, model, tokenizer),
        d_model=config.d_model,
        flops_per_token=3 * forward_flops(model, length),
    )


def write_samples(recipe: GptRecipe, model: DecoderOnly, tokenizer: TextTokenizer) -> list[str]:
    """Texts as the model writes them now."""
    how = recipe.validation
    first_line = next(recipe.data.validation.texts()).strip().split("\n")[0] + "\n"
    prompt = [*tokenizer.start_ids, *tokenizer.encode(first_line if how.prompt is None else how.prompt)]
    written = generate(
        model,
        [prompt] * how.samples,
        max_new_tokens=how.sample_tokens,
        temperature=how.temperature,
        top_k=how.top_k or None,
        seed=recipe.seed,
    )
    return [tokenizer.decode([*prompt, *tokens]) + "\n" for tokens in written]


if __name__ == "__main__":
    try:
        sys.exit(run_program(lambda: main(sys.argv[1:])))
    finally:
        distributed.stop()
