"""What the benchmark times: a few updates, or a beam search over all sentences, by each implementation."""

import tempfile
from argparse import Namespace
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from recipes.benchmarks.speed import OURS, Contestant
from recipes.benchmarks.translation_peers import made_up_tokens, to_marian, to_torch
from transformer_zoo.config import BeamSearch
from transformer_zoo.data import Batch, collate
from transformer_zoo.data.encoding import EncodedCorpus, TokenArrays
from transformer_zoo.errors import UserError
from transformer_zoo.inference import beam_search
from transformer_zoo.models import EncoderDecoder
from transformer_zoo.training.tasks.objectives import TranslationObjective

MARIAN, TORCH = "Hugging Face MarianMTModel", "torch.nn.Transformer"
LABEL_SMOOTHING = 0.1


def make_corpus(n: int, mean_length: float, vocab_size: int, seed: int) -> EncodedCorpus:
    """n made-up pairs with lengths as in real text: a long tail, and a target about as long as its source.

    `mean_length` counts eos. Ids are those of ordinary tokens, 4 and up.
    """
    rng = np.random.default_rng(seed)
    source = np.clip(rng.gamma(4, (mean_length - 1) / 4, n), 2, 4 * mean_length).round().astype(np.int64)
    target = np.maximum(source * rng.normal(1, 0.15, n), 2).round().astype(np.int64)
    sides = [
        TokenArrays(rng.integers(4, vocab_size, lengths.sum()).astype(np.uint32), np.append(0, lengths.cumsum()))
        for lengths in (source, target)
    ]
    return EncodedCorpus(sides[0], sides[1], "made up", np.arange(1, n + 1))


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bfloat16 autocast, or none."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def training_loss(name: str, model: EncoderDecoder, options: Namespace) -> tuple[Any, Callable[[Batch], Tensor]]:
    """A copy of the model in the implementation `name`, and its loss, summed over real target tokens."""
    if name == OURS:
        ours = EncoderDecoder(model.config)
        ours.load_state_dict(model.state_dict())
        objective = TranslationObjective(ours.to(options.device), label_smoothing=LABEL_SMOOTHING)
        if options.compile:
            objective.compile(dynamic=True)
        return objective, lambda batch: objective(batch)[0]
    peer: Any = (to_marian if name == MARIAN else to_torch)(model).to(options.device)

    def loss(batch: Batch) -> Tensor:
        if name == MARIAN:
            mask, target = batch.source_mask, batch.target_in
            logits = peer(batch.source, mask, decoder_input_ids=target, use_cache=False).logits
        else:
            logits = peer(batch.source, batch.target_in, batch.source_mask)
        return F.cross_entropy(
            logits.flatten(0, 1),
            batch.target_out.flatten(),
            ignore_index=model.config.pad_id,
            label_smoothing=LABEL_SMOOTHING,
            reduction="sum",
        )

    return peer, torch.compile(loss, dynamic=True) if options.compile else loss


def training_contestants(model: EncoderDecoder, batches: Sequence[Batch], options: Namespace) -> list[Contestant]:
    """Each implementation at each precision, all with fused Adam. A round is `options.steps` updates."""

    def run(module: Any, loss: Any, optimizer: Any, precision: str, number: int) -> float:
        module.train()
        first, n_tokens = max(number, 0) * options.steps, 0
        for batch in batches[first : first + (options.steps if number >= 0 else 2)]:
            with autocast(options.device, precision):
                total = loss(batch)
            (total / batch.n_tokens).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            n_tokens += batch.n_tokens
        return n_tokens

    contestants = []
    for precision in options.precision:
        for name in (OURS, MARIAN, TORCH):
            module, loss = training_loss(name, model, options)
            adam = torch.optim.Adam(module.parameters(), lr=1e-4, betas=(0.9, 0.98), eps=1e-9, fused=True)
            contestants.append(Contestant(name, precision, partial(run, module, loss, adam, precision)))
    return contestants


@torch.no_grad()
def discourage_specials(model: EncoderDecoder) -> None:
    """Make eos improbable, so that everybody's hypotheses all go on to the length limit: equal work.

    And pad and bos, which not everybody excludes: equal results. The last norm's bias moves the hidden states
    away from these embeddings, and every peer gets a copy of it.
    """
    config = model.config
    embeddings = model.head_weight[[config.pad_id, config.bos_id, config.eos_id]]  # (3, D)
    norm: Any = model.decoder.layers[-1].ffn_norm
    norm.bias -= 6 * F.normalize(embeddings, dim=-1).sum(0)


def source_batches(corpus: EncodedCorpus, size: int, device: torch.device) -> list[tuple[Tensor, Tensor | None]]:
    """Sources by length, `size` at a time: ids (B, Ts) and mask (B, Ts)."""
    order = np.argsort(corpus.source_lengths, kind="stable")
    batches = [collate(corpus, order[i : i + size]).to(device) for i in range(0, len(order), size)]
    return [(batch.source, batch.source_mask) for batch in batches]


def search_ours(
    model: EncoderDecoder, source: Tensor, mask: Tensor | None, options: Namespace, n_best: int = 1
) -> list[list[list[int]]]:
    """The n best translations of each source by this package, without eos."""
    n = options.new_tokens
    how = BeamSearch(beam=options.beam, n_best=n_best, length_penalty=1.0, penalty="length", max_extra=n, max_length=n)
    found = beam_search(model, source, how, source_mask=mask, never=())
    return [[hypothesis.tokens for hypothesis in hypotheses] for hypotheses in found]


@torch.inference_mode()
def search_marian(
    marian: Any, source: Tensor, mask: Tensor | None, options: Namespace, n_best: int = 1
) -> list[list[list[int]]]:
    """The same by Hugging Face's `generate`: the same penalty, the same rule for when to stop."""
    ids = marian.generate(
        input_ids=source,
        attention_mask=torch.ones_like(source) if mask is None else mask,
        num_beams=options.beam,
        num_return_sequences=n_best,
        do_sample=False,
        max_new_tokens=options.new_tokens,
        length_penalty=1.0,
        early_stopping="never",
    )
    end = marian.config.eos_token_id
    rows = [row[: row.index(end)] if end in row else row for row in ids[:, 1:].tolist()]
    return [rows[i : i + n_best] for i in range(0, len(rows), n_best)]


def search_ctranslate2(translator: Any, sources: list[list[str]], options: Namespace) -> list[list[str]]:
    """The same by CTranslate2, which sorts and batches itself."""
    results = translator.translate_batch(
        sources,
        max_batch_size=options.batch_sentences,
        beam_size=options.beam,
        length_penalty=1.0,
        max_decoding_length=options.new_tokens,
    )
    return [result.hypotheses[0] for result in results]


def load_ctranslate2(model: EncoderDecoder, compute_type: str, device: torch.device) -> Any:
    """A CTranslate2 translator with the model's weights, on as many threads as torch has.

    Raises:
        UserError: the package is missing.
    """
    try:
        import ctranslate2

        from transformer_zoo.zoo.ctranslate2.write import to_ctranslate2
    except ImportError:
        raise UserError(
            "ctranslate2 is not installed: pip install ctranslate2, or leave it out with --ctranslate2"
        ) from None

    with tempfile.TemporaryDirectory() as folder:
        to_ctranslate2(model, Path(folder), [made_up_tokens(model.config)] * 2)
        threads = torch.get_num_threads()
        return ctranslate2.Translator(
            folder, device=device.type, compute_type=compute_type, inter_threads=1, intra_threads=threads
        )


def decoding_contestants(model: EncoderDecoder, corpus: EncodedCorpus, options: Namespace) -> list[Contestant]:
    """Each implementation at each precision. A round translates all sentences."""
    batches = source_batches(corpus, options.batch_sentences, options.device)
    words = made_up_tokens(model.config)
    sentences = [[words[token] for token in corpus.source[i]] + ["</s>"] for i in range(len(corpus))]

    def run(search: Any, network: Any, precision: str, number: int) -> float:
        with autocast(options.device, precision):
            for source, mask in batches[-1:] if number < 0 else batches:
                search(network, source, mask, options)
        return len(corpus)

    def run_ctranslate2(translator: Any, number: int) -> float:
        search_ctranslate2(translator, sentences[: options.batch_sentences] if number < 0 else sentences, options)
        return len(corpus)

    marian = to_marian(model).to(options.device).eval()
    contestants = [
        Contestant(name, precision, partial(run, search, network, precision))
        for precision in options.precision
        for name, search, network in ((OURS, search_ours, model), (MARIAN, search_marian, marian))
    ]
    for kind in options.ctranslate2:
        translator = load_ctranslate2(model, kind, options.device)
        contestants.append(Contestant("CTranslate2", kind, partial(run_ctranslate2, translator)))
    return contestants
