"""Trains a GPT on any text, and says how many bits a byte of held-out text takes it.

    python recipes/gpt/train.py recipes/gpt/shakespeare_char_cpu.yaml [--optimizer.lr 0.001 ...]

Read from `main` on: text -> tokenizer -> tokens -> windows -> model -> training -> perplexity. The same command
goes on with a run that was stopped. `torchrun --nproc-per-node N recipes/gpt/train.py ...` trains on N GPUs.
"""

import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import chain
from pathlib import Path
from typing import cast

import torch

from transformer_zoo.blocks import forward_flops
from transformer_zoo.config import PROBABILITIES, DecoderConfig, Sampling
from transformer_zoo.data import (
    TokenFile,
    Windows,
    prepare_tokens,
)
from transformer_zoo.errors import UserError, naming
from transformer_zoo.inference import encode_prompt, generate
from transformer_zoo.models import DecoderOnly
from transformer_zoo.tokenizers import Tokenizer, kind_of, make_tokenizer
from transformer_zoo.training import distributed
from transformer_zoo.training.checkpoint import Run, TextRun
from transformer_zoo.training.device import choose_device
from transformer_zoo.training.folder import check_run, is_finished, mark_finished, open_run
from transformer_zoo.training.gpt import GptObjective, GptRecipe, text_metrics
from transformer_zoo.training.imported import imported_run
from transformer_zoo.training.initial import Start, is_going_on, keep_config, text_start
from transformer_zoo.training.logging import in_words
from transformer_zoo.training.loop import Trainer
from transformer_zoo.training.memory import check_training
from transformer_zoo.training.model_json import save_model_config
from transformer_zoo.training.options import defaults_of, overridden, parse_recipe
from transformer_zoo.training.task import Task
from transformer_zoo.zoo import get_config
from transformer_zoo.zoo.huggingface import from_huggingface, resolve

Say = Callable[..., None]
ROOM_FOR_SPECIAL = 64  # of a preset whose vocabulary is not known yet
Initial = Start[DecoderConfig, Tokenizer]


def main(arguments: list[str]) -> None:
    """One run: everything is checked before anything is written."""
    recipe, plain = parse_recipe(GptRecipe, arguments)
    run_dir, here = Path(recipe.run_dir), distributed.world()
    say: Say = print if here.main else (lambda *words: None)
    recipe.validate()
    if set(recipe.data.train.files()) & set(recipe.data.validation.files()):
        say("warning: data.validation is text of data.train; what is measured on it says nothing about other text")
    known = model_config(recipe) if recipe.model.init_from is None else None  # is there such a preset, do they fit?
    device = choose_device(recipe.device, here.local_rank)
    check_run(run_dir, plain, defaults_of(GptRecipe))
    if is_finished(run_dir, plain, {}):
        return say(f"{run_dir} is finished, see results.json; to train on, raise its limit")
    if known is not None:
        check_training(known, recipe, device)
    distributed.start(here, device)
    start = get_start(recipe, run_dir)
    with ExitStack() as held:
        with distributed.first() as mine:
            if mine:
                texts = {"data.train": recipe.data.train.stamp(), "data.validation": recipe.data.validation.stamp()}
                held.enter_context(open_run(run_dir, plain, texts))
        tokenizer = get_tokenizer(recipe, run_dir, start)
        train, validation = get_tokens(recipe, tokenizer, run_dir)
        say(f"{tokenizer.name}: {train.n_tokens:,} training tokens, {validation.n_tokens:,} for validation")
        config = model_config(recipe, tokenizer, start)
        check_training(config, recipe, device)
        task = make_task(recipe, config, tokenizer, train, validation)
        if start is not None:
            start.load_into(task.model)
        trainer = Trainer(task, recipe, world=here)
        if here.main:
            save_model_config(run_dir, "decoder-only", config, tokenizer=tokenizer.fingerprint)
        say(f"{trainer.how}; run folder {run_dir}")
        reason, step = trainer.fit(), trainer.progress.step
        if reason == "signal":
            say(f"stopped at update {step}; the same command goes on from there")
            raise KeyboardInterrupt  # the exit status: what comes after a finished run is not to come yet
        say(f"training ended at update {step} ({reason})")
        if here.main:
            metrics = trainer.validate_final()
            say(f"validation, final weights: {in_words(metrics)}")
            mark_finished(run_dir, plain, trainer.task.data, {"step": step, "ended_by": reason, "validation": metrics})
            say(f"write with: transformer-zoo generate {run_dir}")


def get_start(recipe: GptRecipe, run_dir: Path) -> Initial | None:
    """What `model.init_from` names; None where training starts from scratch."""
    if recipe.model.init_from is None:
        return None
    start = text_start(recipe.model.init_from, run_dir, read_huggingface)
    model_config(recipe, start.tokenizer, start)  # do the fields fit?
    return start


def read_huggingface(name: str) -> Run | TextRun:
    """A model and its tokenizer from a folder of Hugging Face's, or from its hub."""
    folder = resolve(name)
    return imported_run(from_huggingface(folder), folder)


def get_tokenizer(recipe: GptRecipe, run_dir: Path, start: Initial | None) -> Tokenizer:
    """The tokenizer of a run that goes on, or of the model it starts from; else the first process makes one."""
    folder = run_dir / "tokenizer"
    with distributed.first() as mine:
        if mine and not is_going_on(run_dir):
            if start is not None:
                tokenizer = start.tokenizer
            else:
                texts = recipe.data.train.texts()
                if kind_of(recipe.tokenizer.kind).is_closed:  # it refuses what it has never seen
                    texts = chain(texts, recipe.data.validation.texts())
                tokenizer = make_tokenizer(recipe.tokenizer, texts)
            tokenizer.save(folder)
    return Tokenizer.load(folder)


def get_tokens(recipe: GptRecipe, tokenizer: Tokenizer, run_dir: Path) -> tuple[TokenFile, TokenFile]:
    """The tokens of both texts; the first process makes those that are not there yet."""
    data = recipe.data
    folder = Path(data.tokens).expanduser() if data.tokens else run_dir / "tokens"
    texts = {"train": data.train, "validation": data.validation}
    with distributed.first() as mine:
        for split, files in texts.items() if mine else ():
            prepare_tokens(files, tokenizer, folder, split, workers=data.workers)
    train, validation = (TokenFile(folder, split, tokenizer) for split in texts)
    if validation.n_tokens < 2:
        raise UserError(f"data.validation: {data.validation} is a single token, which leaves nothing to predict")
    return train, validation


def model_config(recipe: GptRecipe, tokenizer: Tokenizer | None = None, start: Initial | None = None) -> DecoderConfig:
    """The preset with the recipe's changes, and the tokenizer's vocabulary; or the model that it starts from."""
    config = preset_config(recipe, tokenizer) if start is None else kept_config(recipe, start)
    length = recipe.data.length or config.max_seq_len
    if config.positions == "learned" and length > config.max_seq_len:
        raise UserError(f"data.length {length} is more than the {config.max_seq_len} positions that are learned")
    if recipe.training.batch_tokens < length:
        raise UserError(
            f"training.batch_tokens {recipe.training.batch_tokens} is less than a window of {length}, which is "
            "data.length, or the model's max_seq_len: change one of them"
        )
    return config


def preset_config(recipe: GptRecipe, tokenizer: Tokenizer | None) -> DecoderConfig:
    """For a model that is new."""
    changes, preset = overridden(recipe.model), recipe.model.preset
    if recipe.data.length is not None:  # past it the model learns nothing, so it is never to read more
        changes.setdefault("max_seq_len", recipe.data.length)
    if tokenizer is None:
        changes["vocab_size"] = recipe.tokenizer.vocab_size or ROOM_FOR_SPECIAL
    else:
        changes |= {"vocab_size": tokenizer.vocab_size, "eos_id": tokenizer.eos_id, "bos_id": None, "pad_id": None}
    with naming("model.preset"):
        base = get_config(preset)
    if not isinstance(base, DecoderConfig):
        raise UserError(f"model.preset: {preset} is an encoder-decoder; train it with recipes/translation/train.py")
    with naming("model"):
        return cast(DecoderConfig, get_config(preset, **changes))


def kept_config(recipe: GptRecipe, start: Initial) -> DecoderConfig:
    """For a model that was trained before: it may be made to read less, unless each of its positions is learned."""
    longest, wanted = start.config.max_seq_len, overridden(recipe.model).get("max_seq_len")
    if wanted is not None and wanted != longest and (wanted > longest or start.config.positions == "learned"):
        raise UserError(f"model.max_seq_len: that of model.init_from is {longest}, and cannot become {wanted}")
    return keep_config(start.config, recipe.model, (*PROBABILITIES, "max_seq_len"))


def make_task(
    recipe: GptRecipe, config: DecoderConfig, tokenizer: Tokenizer, train: TokenFile, validation: TokenFile
) -> Task:
    """Windows, model, loss and validation: what the trainer needs to know about language models."""
    length = recipe.data.length or config.max_seq_len
    windows, held_out = (
        Windows(tokens, length, packed_documents=recipe.data.packed_documents) for tokens in (train, validation)
    )
    batch_size = recipe.training.batch_tokens // length
    torch.manual_seed(recipe.seed)
    model = DecoderOnly(config)
    model.decoder.recompute = recipe.training.recompute
    objective = GptObjective(model)
    prompt = get_prompt(recipe, model, tokenizer)
    return Task(
        model=model,
        objective=objective,
        plan=partial(windows.plan, batch_size=batch_size),
        load=partial(windows.load, batch_size=batch_size, seed=recipe.seed),
        validate=lambda: text_metrics(objective, held_out.evaluation(batch_size=batch_size), validation.n_bytes),
        samples=partial(write_samples, recipe, model, tokenizer, prompt),
        data={"data.train": train.stamp, "data.validation": validation.stamp},
        d_model=config.d_model,
        fine_tuning=recipe.model.init_from is not None,
        flops_per_token=3 * forward_flops(model, length),
    )


def get_prompt(recipe: GptRecipe, model: DecoderOnly, tokenizer: Tokenizer) -> list[int]:
    """What samples go on from: the recipe's prompt, or the validation text's first line."""
    text = recipe.validation.prompt
    if text is None:  # a text may be one long line
        text = next(recipe.data.validation.texts()).strip().split("\n")[0][:200] + "\n"
    try:
        return encode_prompt(model, tokenizer, text)
    except UserError as error:
        raise UserError(f"validation.prompt: {error}") from None


def write_samples(recipe: GptRecipe, model: DecoderOnly, tokenizer: Tokenizer, prompt: list[int]) -> list[str]:
    """Texts as the model writes them now."""
    how = recipe.validation
    written = generate(
        model,
        [prompt] * how.samples,
        Sampling(temperature=how.temperature, top_k=how.top_k or None),
        max_new_tokens=how.sample_tokens,
        seed=recipe.seed,
        never=() if how.write_special else tokenizer.special_ids,
    )
    return [tokenizer.decode([*prompt, *tokens]) + "\n" for tokens in written]


if __name__ == "__main__":
    sys.exit(distributed.run(lambda: main(sys.argv[1:])))
