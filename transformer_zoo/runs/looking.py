"""What a run attends to while it reads and writes: attention weights of all layers and heads, and the text's pieces.

Shapes: L layers, H heads, Tq queries, Tk keys; Ts pieces of a source, Tt of a target.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from transformer_zoo.blocks import record_weights
from transformer_zoo.errors import UserError, escaped
from transformer_zoo.inference import beam_search
from transformer_zoo.inference.codec import TranslationCodec, encode_prompt
from transformer_zoo.inference.modes import evaluating
from transformer_zoo.runs.load import EncoderRun, Run, TextRun
from transformer_zoo.runs.translating import as_tested

AttentionKind = Literal["encoder", "decoder", "cross"]
"""Attention of the source to itself, of the target to itself, and of the target to the source."""


@dataclass(frozen=True)
class AttentionMaps:
    """What each piece of a text attends to, in every head of every layer: attention weights, which sum to 1.
    >>> attention_maps(load_run("runs/de-en"), "ja", "yes").alignment.shape  # y, e, s, the end; j, a, the end
    torch.Size([4, 3])

    Args:
        source: Pieces that the encoder reads; empty without an encoder.
        target: Pieces that the decoder reads; empty without a decoder.
        written: The piece that a translation has after each piece of `target`; it is `target` moved left by one.
        translation: The written text; empty for other runs.
        weights: For each kind of attention that the model has, (H, Tq, Tk) for each layer, float32 on the CPU.
    """

    source: list[str]
    target: list[str]
    written: list[str]
    translation: str
    weights: dict[AttentionKind, list[Tensor]]

    def pieces(self, kind: AttentionKind) -> tuple[list[str], list[str]]:
        """The attending pieces and those attended to: names of rows and of columns of `weights[kind]`.

        The rows of cross-attention have the names of the pieces that are written there, as in an alignment.
        """
        if kind == "cross":
            return self.written, self.source
        own = self.source if kind == "encoder" else self.target
        return own, own

    @property
    def alignment(self) -> Tensor:
        """How much each written piece attended to each source piece, (Tt, Ts), as in `Explained`: the cross-attention
        of the last layer but one, averaged over its heads."""
        layers = self.weights["cross"]
        return layers[max(0, len(layers) - 2)].mean(0)


def visible(piece: str) -> str:
    """A piece in a readable form: a blank is ▁, an end of a line ⏎, and invisible characters are escaped."""
    return escaped(piece.replace(" ", "▁").replace("\n", "⏎").replace("\t", "⇥"))


@torch.inference_mode()
def attention_maps(
    run: Run | TextRun | EncoderRun, text: str, target: str | None = None, *, max_pieces: int = 512
) -> AttentionMaps:
    """Attention weights of all layers and heads while a run reads a text and, if it translates, writes a translation.
    >>> maps = attention_maps(load_run("runs/letters"), "to be")
    >>> maps.target, maps.weights["decoder"][0].shape
    (['t', 'o', ' ', 'b', 'e'], torch.Size([4, 5, 5]))

    Args:
        run: a run as `load_run` returns it.
        text: one sentence: a source, or a text.
        target: its translation; None: the run's own, found by the search it was tested with. Other runs take none.
        max_pieces: largest number of pieces on either side. Memory grows with its square times the number of heads.

    Raises:
        UserError: there is a target but the run does not translate; a text is empty, longer than `max_pieces` or longer
            than the model takes; or an attention of your own does not return its weights.
    """
    if isinstance(run, Run):
        return _of_translation(run, text, target, max_pieces)
    if target is not None:
        raise UserError(f"a target is for a translation, and this is {run.kind}: put it behind the text")
    ids = _given(run, text)
    _check_length(ids, run.model.config.max_seq_len, max_pieces)
    pieces, weights = run.tokenizer.readable(ids), _weights(run.model, ids)
    return AttentionMaps(*((pieces, []) if isinstance(run, EncoderRun) else ([], pieces)), [], "", weights)


def _given(run: TextRun | EncoderRun, text: str) -> list[int]:
    """The ids of a text as the model reads it."""
    if isinstance(run, TextRun):
        return encode_prompt(run.model, run.tokenizer, text)
    ids = [*run.tokenizer.start_ids, *run.tokenizer.encode(text), *run.tokenizer.end_ids]
    if not ids:
        raise UserError("the text is empty: there is nothing to look at")
    return ids


def _of_translation(run: Run, text: str, target: str | None, max_pieces: int) -> AttentionMaps:
    model, codec = run.model, TranslationCodec(run.model, run.tokenizer)
    [source] = codec.encode([text])
    _check_length(source, model.config.max_seq_len, max_pieces)
    [(_, written)] = codec.answers([(source, target)]) if target is not None else [(source, _found(run, codec, source))]
    read = [*model.opening(source), *written[:-1]]
    _check_length(read, model.facts.context, max_pieces)
    sides = codec.source.readable(source), codec.target.readable(read), codec.target.readable(written)
    return AttentionMaps(*sides, codec.decode(source, written), _weights(model, source, read))


def _found(run: Run, codec: TranslationCodec, source: list[int]) -> list[int]:
    """The ids of the best translation, and of its end, if it has one."""
    search = replace(as_tested(run).search, n_best=1)
    with evaluating(run.model):
        [[best]] = beam_search(run.model, [source], search, prefix=[codec.start] if codec.start else None)
    return [*best.tokens, codec.end] if best.ended else best.tokens


def _check_length(ids: Sequence[int], context: int, max_pieces: int) -> None:
    if len(ids) > context:
        raise UserError(f"the text has {len(ids):,} tokens, and the model takes {context:,}: give a shorter one")
    if len(ids) > max_pieces:
        raise UserError(f"{len(ids):,} are more than {max_pieces:,} pieces, the most to look at: give a shorter text")


def _weights(model: Any, *read: Sequence[int]) -> dict[AttentionKind, list[Tensor]]:
    """Attention weights of each kind while the model reads these tokens."""
    ids = (torch.tensor([row], device=model.head_weight.device) for row in read)  # (1, T) each
    with evaluating(model), record_weights(model) as recorded:
        model.hidden(*ids)
    names = {module: name for name, module in model.named_modules()}
    found: dict[AttentionKind, list[Tensor]] = {}
    for kind, layer, attention in _attentions(model):
        if names[attention] not in recorded:
            raise UserError(f"layer {layer}: its {type(attention).__name__} does not give its weights (return_weights)")
        found.setdefault(kind, []).append(recorded[names[attention]][0].float().cpu())
    return found


def _attentions(model: Any) -> Iterator[tuple[AttentionKind, int, nn.Module]]:
    """Every attention of a model, and its kind."""
    stacks = [(name, i, layer) for name in model.stacks for i, layer in enumerate(getattr(model, name).layers)]
    yield from ((name, i, layer.attn) for name, i, layer in stacks)
    yield from (("cross", i, layer.cross_attn) for _, i, layer in stacks if layer.cross_attn is not None)
