"""What an encoder says about a text: its heads."""

from dataclasses import dataclass
from typing import Any, Literal

from transformer_zoo.config.feed_forward import Activation
from transformer_zoo.config.norm import NormSpec
from transformer_zoo.config.spec import Context, Spec
from transformer_zoo.errors import UserError


class HeadSpec(Spec):
    """Base of all heads of an encoder."""


@dataclass(frozen=True, kw_only=True)
class WordsSpec(HeadSpec):
    """Which token stands, or is hidden, at each position (Devlin et al. 2019, section 3.1). Its norm is as in the
    layers.
    >>> config = tz.get_config("bert-tiny", head=WordsSpec(activation="relu"))
    """

    module = "transformer_zoo.blocks.heads:HeadProjection"  # and then the embedding's matrix, or one of its own
    takes = ("d_model",)

    activation: Activation = "gelu"
    """Activation function after its first projection."""
    bias: bool = True
    """Whether that projection has a bias."""


@dataclass(frozen=True, kw_only=True)
class ProjectionSpec(Spec):
    """A projection of a head before its last one, d_model to d_model.
    >>> config = tz.get_config("bert-tiny", head=TokensSpec(labels=("O", "name"), projection=ProjectionSpec()))
    """

    module = "transformer_zoo.blocks.heads:HeadProjection"
    takes = ("d_model",)

    activation: Activation = "tanh"
    """Activation function after it."""
    bias: bool = True
    """Whether it has a bias."""
    norm: NormSpec | None = None
    """Dropout after the activation."""


@dataclass(frozen=True, kw_only=True)
class LabelsSpec(HeadSpec):
    """Base of the heads that give labels."""

    labels: tuple[str, ...]
    """Names of the labels, in the order of the logits."""
    projection: ProjectionSpec | None = None
    """The projection before the last one, if there is one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.labels:
            raise UserError("labels is empty; a head needs at least one")

    def arguments(self, context: Context) -> dict[str, Any]:
        given = super().arguments(context)
        return {"n_labels": len(given.pop("labels")), **given}


@dataclass(frozen=True, kw_only=True)
class TextsSpec(LabelsSpec):
    """Labels of a whole text, from one of its vectors (Devlin et al. 2019, section 4.1).
    >>> config = tz.get_config("bert-tiny", head=TextsSpec(labels=("bad", "good")))
    """

    module = "transformer_zoo.blocks.heads:LabelHead"
    takes = ("d_model", "dropout")

    projection: ProjectionSpec | None = ProjectionSpec()
    """The projection before the last one, if there is one; BERT calls it a pooler."""
    pooling: Literal["first", "mean"] = "first"
    """The vector that it reads: that of the first token, or the mean over all tokens."""
    problem: Literal["one", "several", "values"] = "one"
    """"one": a text has one of the labels, and their probabilities sum to 1; "several": a text has any number of them;
    "values": each label is a measure, such as of similarity, and not a probability."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.problem == "one" and len(self.labels) == 1:
            raise UserError("problem is 'one', but there is only one label: take 'several' or 'values'")

    def arguments(self, context: Context) -> dict[str, Any]:
        given = super().arguments(context)
        del given["problem"]
        return given


@dataclass(frozen=True, kw_only=True)
class TokensSpec(LabelsSpec):
    """A label of each token, such as the kind of name it is part of (Devlin et al. 2019, section 5.3).
    >>> config = tz.get_config("bert-tiny", head=TokensSpec(labels=("O", "person")))
    """

    module = "transformer_zoo.blocks.heads:LabelHead"
    takes = ("d_model", "dropout")
