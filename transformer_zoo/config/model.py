"""Whole models."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, Literal, Self

from transformer_zoo.config.attention import AttentionSpec
from transformer_zoo.config.changes import changed_fields, defaults_of
from transformer_zoo.config.decoding import RulesSpec
from transformer_zoo.config.feed_forward import FeedForwardSpec
from transformer_zoo.config.layer import LayerSpec, StackSpec
from transformer_zoo.config.positions import LearnedSpec
from transformer_zoo.config.spec import Context, Spec
from transformer_zoo.errors import UserError


@dataclass(frozen=True, kw_only=True)
class ModelConfig(Spec):
    """What all models have.
    >>> config = tz.get_config("gpt-nano").changed(d_ff=256, positions="rotary")

    Raises:
        UserError: a field has a wrong type, an impossible value, or does not fit another.
    """

    vocab_size: int
    """Vocabulary; in an encoder-decoder the source's, and the target's too unless `target_vocab_size` is given."""
    d_model: int = 512
    """Width of the residual stream."""
    max_seq_len: int = 1024
    """Tokens of the longest text. Learned positions end there; with others a model can read on, but text is written,
    scored and trained on in windows of it, and longer sources are split."""
    dropout: float = 0.1
    """On embedding + position and on each sublayer's output, before it is added (section 5.4)."""
    scale_embeddings: bool | float = True
    """Multiply embeddings by sqrt(d_model) (section 3.4), or by this number."""
    logit_scale: float | Literal["d_model"] | None = None
    """Multiplies the logits; "d_model": d_model^-0.5, as in T5 with a tied head; None: 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, stack in self.stacks():
            stack.check(self.context_of(name))

    def stacks(self) -> Iterator[tuple[str, StackSpec]]:
        """ "encoder" and "decoder", as far as the model has them."""
        return ((f.name, getattr(self, f.name)) for f in fields(self) if f.type is StackSpec)

    def context_of(self, stack: str) -> Context:
        """What is around the modules of one of the stacks; positions are for heads like those of its first layer."""
        spec: StackSpec = getattr(self, stack)
        numbers = {name: getattr(self, name) for name in ("d_model", "max_seq_len", "dropout")}
        return spec.around(spec.layers[0], Context(**numbers, bidirectional=stack == "encoder"))

    @property
    def logit_factor(self) -> float:
        """What multiplies the logits."""
        return self.d_model**-0.5 if self.logit_scale == "d_model" else self.logit_scale or 1.0

    @property
    def longest_input(self) -> int:
        """Most tokens that the model can be given."""
        bounded = any(stack.positions is not None and stack.positions.bounded for _, stack in self.stacks())
        return self.max_seq_len if bounded else sys.maxsize

    @classmethod
    def of(cls, **given: Any) -> Self:
        """With fields by name, as for `changed`."""
        return cls.from_dict(changed_fields(cls, defaults_of(cls), given))

    def changed(self, **given: Any) -> Self:
        """With other values of some fields.

        A name is that of a field ("vocab_size", "decoder"), of one inside ("decoder.positions.base"), of a field of
        the stacks or their layers ("positions.base", "ffn.gated"), which is changed in all of them, or one of `SHORT`.
        A spec is given as itself, as its kind ("rotary", "none"), which keeps what all kinds have, or as a mapping
        with some of its fields.

        Raises:
            UserError: a name that there is not, or a value that does not fit.
        """
        return self.from_dict(changed_fields(type(self), self.to_dict(), given))


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig(ModelConfig):
    """The encoder-decoder of "Attention Is All You Need" (Vaswani et al. 2017); the defaults are its base model.
    >>> config = EncoderDecoderConfig.of(vocab_size=100, d_model=256, n_heads=4, n_decoder_layers=2)
    """

    encoder: StackSpec = StackSpec()
    """The layers that read the source."""
    decoder: StackSpec = StackSpec()
    """The layers that write the target."""
    target_vocab_size: int | None = None
    """Target vocabulary, where the two sides have one each."""
    share_embeddings: Literal["all", "inputs", "decoder", "none"] = "all"
    """Which of source embedding, target embedding and output projection are one matrix: "all", the "inputs" (the first
    two), "decoder" (the last two), or "none"."""
    logit_bias: bool = False
    """A constant is added to each logit, which comes with the weights and is not trained, as in Marian and BART."""
    count_padding: bool = True
    """Places are counted from the start of a row; False: from its first real token, wherever padding is, and a pad that
    was written in the middle has none, as in M2M-100."""
    pad_id: int = 0
    """The token that fills up short rows of a batch."""
    zero_pad: bool = True
    """The embedding of pad starts as zero and is not learned from inputs. Where it is the output projection too, that
    learns it, unless targets start with pad."""
    bos_id: int = 2
    """The token every target starts with."""
    eos_id: int = 3
    """The token every target ends with, and every source unless `source_end_id` is given."""
    source_end_id: int | None = None
    """The token every source ends with; None: `eos_id`."""
    forced_last_id: int | None = None
    """The last token of a translation that reaches the length limit, at no cost: eos in Marian and BART; None: it is
    cut."""
    never_ids: tuple[int, ...] | None = None
    """Tokens that no translation contains; None: pad and bos, which no target it was trained on contains."""

    rules: RulesSpec = RulesSpec()
    """What targets are written by, beside the two above."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rules.check_ids(self.target_size, "forced_first_id", "never_first_ids")
        smaller = min(self.vocab_size, self.target_size)
        self.check_ids(smaller, "pad_id", "bos_id", "eos_id", "source_end_id", "forced_last_id")
        self.check_ids(self.target_size, "never_ids")
        if self.eos_id in self.never:
            raise UserError(f"never_ids has eos_id, {self.eos_id}, without which no translation ends")
        for name, stack in self.stacks():
            if any(layer.attention.window is not None for layer in stack.layers):
                raise UserError(f"{name}: a window is for decoder-only models")
            if stack.norm_position.startswith("parallel"):
                raise UserError(f"{name}: norm_position {stack.norm_position!r} is for decoder-only models")
        if not self.count_padding and self.encoder.positions is self.decoder.positions is None:
            raise UserError("count_padding is False, and has no effect where positions are none: leave it out")
        if self.share_embeddings in ("all", "inputs") and self.target_vocab_size not in (None, self.vocab_size):
            raise UserError(
                f"share_embeddings {self.share_embeddings!r} needs one vocabulary, but vocab_size is {self.vocab_size} "
                f"and target_vocab_size {self.target_vocab_size}: set share_embeddings to 'decoder' or 'none'"
            )

    @property
    def target_size(self) -> int:
        """Target vocabulary."""
        return self.target_vocab_size or self.vocab_size

    @property
    def never(self) -> tuple[int, ...]:
        """Tokens that no translation contains."""
        return tuple({self.pad_id, self.bos_id} - {self.eos_id}) if self.never_ids is None else self.never_ids

    @property
    def source_end(self) -> int:
        """The token every source ends with."""
        return self.eos_id if self.source_end_id is None else self.source_end_id


@dataclass(frozen=True, kw_only=True)
class NgramSpec(Spec):
    """Vectors for the last tokens together, added to a token's embedding.
    >>> config = tz.get_config("gpt-nano", ngrams=NgramSpec(n=3))
    """

    module = "transformer_zoo.blocks.embedding:NgramEmbedding"
    takes = ("d_model",)

    n: int = 2
    """For the last 2, ... up to so many tokens."""
    rows: int = 16384
    """Vectors for the n-grams of each length, which share them by a hash."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n < 2:
            raise UserError(f"NgramSpec.n is {self.n}, expected at least 2")


_GPT2 = StackSpec(
    n_layers=12,
    layer=LayerSpec(
        attention=AttentionSpec(n_heads=12, dropout=0.1), ffn=FeedForwardSpec(d_ff=3072, activation="gelu_tanh")
    ),
    positions=LearnedSpec(),
    norm_position="pre",
)


@dataclass(frozen=True, kw_only=True)
class DecoderConfig(ModelConfig):
    """A decoder-only model; the defaults are GPT-2's smallest (Radford et al. 2019).
    >>> config = DecoderConfig.of(vocab_size=100, n_layers=2, positions="rotary")
    """

    d_model: int = 768
    """Width of the residual stream."""
    scale_embeddings: bool | float = False
    """Multiply embeddings by sqrt(d_model), or by this number."""
    decoder: StackSpec = _GPT2
    """The layers."""
    tie_embeddings: bool = True
    """The output projection is the token embedding's matrix."""
    d_embedding: int | None = None
    """Width of the token embedding and of the head, with a projection to and from d_model; None: d_model, without."""
    ngrams: NgramSpec | None = None
    """A token's embedding also has vectors for the last tokens together."""
    logit_softcap: float | None = None
    """Bounds the logits: cap * tanh(logit / cap)."""
    vocab_multiple: int = 1
    """Embedding and output projection get rows up to the next multiple of this, for speed; no logit comes of them."""
    init: Literal["gpt2", "zero_out"] = "gpt2"
    """"gpt2": N(0, 0.02), the last projection of each sublayer 1 / sqrt(2 n_layers) of it; "zero_out":
    N(0, 1 / inputs), the last projections and an untied head zero."""
    pad_id: int | None = None
    """The token that fills up short rows, where there is one: inputs give its embedding no gradient."""
    bos_id: int | None = None
    """The token a text starts with, where there is one."""
    eos_id: int | None = None
    """The token a text ends with, where there is one."""
    stop_ids: tuple[int, ...] | None = None
    """More tokens at which an answer ends, such as the end of a turn in a chat."""
    never_ids: tuple[int, ...] | None = None
    """Tokens that are not written."""
    rules: RulesSpec = RulesSpec()
    """What texts are written by."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_ids(self.vocab_size, "pad_id", "bos_id", "eos_id", "stop_ids", "never_ids")
        self.rules.check_ids(self.vocab_size, "forced_first_id", "never_first_ids")

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the embedding and of the output projection."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple
