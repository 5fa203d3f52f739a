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
    """The fields that all models have.
    >>> config = tz.get_config("gpt-nano").changed(d_ff=256, positions="rotary")

    Raises:
        UserError: a field has a wrong type or an impossible value, or does not fit another field.
    """

    vocab_size: int
    """Size of the vocabulary. An encoder-decoder's target has the same one unless `target_vocab_size` is given."""
    d_model: int = 512
    """Width of the residual stream."""
    max_seq_len: int = 1024
    """Number of tokens of the longest text. Learned positions end there. With other positions a model can read on, but
    text is written, scored and trained on in windows of this length, and longer sources are split."""
    dropout: float = 0.1
    """Dropout on embedding + position and on each sublayer's output, before it is added (section 5.4)."""
    scale_embeddings: bool | float = True
    """Whether embeddings are multiplied by sqrt(d_model) (section 3.4), or the number that they are multiplied by."""
    logit_scale: float | Literal["d_model"] | None = None
    """Factor of the logits; "d_model" is d_model^-0.5, as in T5 with a tied head; None: 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, stack in self.stacks():
            stack.check(self.context_of(name))

    def stacks(self) -> Iterator[tuple[str, StackSpec]]:
        """ "encoder" and "decoder", as far as the model has them."""
        return ((f.name, getattr(self, f.name)) for f in fields(self) if f.type is StackSpec)

    def context_of(self, stack: str) -> Context:
        """The numbers around the modules of one of the stacks. Positions fit the heads of its first layer."""
        spec: StackSpec = getattr(self, stack)
        numbers = {name: getattr(self, name) for name in ("d_model", "max_seq_len", "dropout")}
        return spec.around(spec.layers[0], Context(**numbers, bidirectional=stack == "encoder"))

    @property
    def logit_factor(self) -> float:
        """The factor of the logits."""
        return self.d_model**-0.5 if self.logit_scale == "d_model" else self.logit_scale or 1.0

    @property
    def longest_input(self) -> int:
        """Number of tokens that the model can be given, at most."""
        bounded = any(stack.positions is not None and stack.positions.bounded for _, stack in self.stacks())
        return self.max_seq_len if bounded else sys.maxsize

    @classmethod
    def of(cls, **given: Any) -> Self:
        """A configuration with fields by name, as for `changed`."""
        return cls.from_dict(changed_fields(cls, defaults_of(cls), given))

    def changed(self, **given: Any) -> Self:
        """A copy with other values of some fields.

        A name is that of a field ("vocab_size", "decoder"), the address of a field inside one
        ("decoder.positions.base"), a field of the stacks or their layers ("positions.base", "ffn.gated"), or one of
        `SHORT`. A field of the stacks is changed in all of them. A spec is given as a spec, as the name of its kind
        ("rotary", "none") or as a mapping with some of its fields. The name of a kind keeps the fields that all kinds
        have.

        Raises:
            UserError: a name does not exist, or a value does not fit.
        """
        return self.from_dict(changed_fields(type(self), self.to_dict(), given))


@dataclass(frozen=True, kw_only=True)
class EncoderDecoderConfig(ModelConfig):
    """The encoder-decoder of "Attention Is All You Need" (Vaswani et al. 2017). The defaults are its base model.
    >>> config = EncoderDecoderConfig.of(vocab_size=100, d_model=256, n_heads=4, n_decoder_layers=2)
    """

    encoder: StackSpec = StackSpec()
    """The layers that read the source."""
    decoder: StackSpec = StackSpec()
    """The layers that write the target."""
    target_vocab_size: int | None = None
    """Size of the target vocabulary, if the two sides have different ones."""
    share_embeddings: Literal["all", "inputs", "decoder", "none"] = "all"
    """Which of source embedding, target embedding and output projection are one matrix: "all", "inputs" (the first
    two), "decoder" (the last two), or "none"."""
    logit_bias: bool = False
    """Whether a constant is added to each logit. It comes with the weights and is not trained, as in Marian and
    BART."""
    count_padding: bool = True
    """Whether positions are counted from the start of a row. If not, they start at its first real token, wherever
    padding is, and a pad token that was written in the middle has no position, as in M2M-100."""
    pad_id: int = 0
    """The token that pads short rows of a batch."""
    zero_pad: bool = True
    """Whether the embedding of pad starts as zero and is not learned from inputs. If it is also the output projection,
    that learns it, unless targets start with pad."""
    bos_id: int = 2
    """The token that every target starts with."""
    eos_id: int = 3
    """The token that every target ends with. Sources end with it too, unless `source_end_id` is given."""
    source_end_id: int | None = None
    """The token that every source ends with; None: `eos_id`."""
    forced_last_id: int | None = None
    """The token that ends a translation which reaches the length limit, at no cost: eos in Marian and BART. None: the
    translation is cut."""
    never_ids: tuple[int, ...] | None = None
    """Tokens that no translation contains; None: pad and bos, which no training target contains."""

    rules: RulesSpec = RulesSpec()
    """Rules for writing targets, in addition to the two fields above."""

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
        """Size of the target vocabulary."""
        return self.target_vocab_size or self.vocab_size

    @property
    def never(self) -> tuple[int, ...]:
        """Tokens that no translation contains."""
        return tuple({self.pad_id, self.bos_id} - {self.eos_id}) if self.never_ids is None else self.never_ids

    @property
    def source_end(self) -> int:
        """The token that every source ends with."""
        return self.eos_id if self.source_end_id is None else self.source_end_id


@dataclass(frozen=True, kw_only=True)
class NgramSpec(Spec):
    """Vectors for the last few tokens together, added to a token's embedding.
    >>> config = tz.get_config("gpt-nano", ngrams=NgramSpec(n=3))
    """

    module = "transformer_zoo.blocks.embedding:NgramEmbedding"
    takes = ("d_model",)

    n: int = 2
    """Length of the longest n-gram; there are vectors for the last 2, 3, ... tokens up to it."""
    rows: int = 16384
    """Number of vectors for the n-grams of each length, which share them by a hash."""

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
    """A decoder-only model. The defaults are GPT-2's smallest model (Radford et al. 2019).
    >>> config = DecoderConfig.of(vocab_size=100, n_layers=2, positions="rotary")
    """

    d_model: int = 768
    """Width of the residual stream."""
    scale_embeddings: bool | float = False
    """Whether embeddings are multiplied by sqrt(d_model), or the number that they are multiplied by."""
    decoder: StackSpec = _GPT2
    """The layers."""
    tie_embeddings: bool = True
    """Whether the output projection is the token embedding's matrix."""
    d_embedding: int | None = None
    """Width of the token embedding and of the head, with projections to and from d_model; None: d_model, without
    them."""
    ngrams: NgramSpec | None = None
    """Vectors for the last few tokens together, added to a token's embedding; None: there are none."""
    logit_bias: bool = False
    """Whether a learned bias is added to the logits, as in GPT-J."""
    logit_softcap: float | None = None
    """Bound of the logits: cap * tanh(logit / cap)."""
    vocab_multiple: int = 1
    """Embedding and output projection get rows up to the next multiple of this, for speed. These rows give no
    logits."""
    init: Literal["gpt2", "zero_out"] = "gpt2"
    """"gpt2": N(0, 0.02), and the last projection of each sublayer 1 / sqrt(2 n_layers) of that; "zero_out": N(0, 1 /
    inputs), and the last projections and an untied head zero."""
    pad_id: int | None = None
    """The token that pads short rows, if there is one. Inputs give its embedding no gradient."""
    bos_id: int | None = None
    """The token that a text starts with, if there is one."""
    eos_id: int | None = None
    """The token that a text ends with, if there is one."""
    stop_ids: tuple[int, ...] | None = None
    """More tokens that end an answer, such as the end of a turn in a chat."""
    never_ids: tuple[int, ...] | None = None
    """Tokens that are not written."""
    rules: RulesSpec = RulesSpec()
    """Rules for writing texts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_ids(self.vocab_size, "pad_id", "bos_id", "eos_id", "stop_ids", "never_ids")
        self.rules.check_ids(self.vocab_size, "forced_first_id", "never_first_ids")

    @property
    def padded_vocab_size(self) -> int:
        """Number of rows of the embedding and of the output projection."""
        return -(-self.vocab_size // self.vocab_multiple) * self.vocab_multiple
