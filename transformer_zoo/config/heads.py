"""What an encoder says of a text: its heads."""

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
    """Which token stands, or is hidden, at each place (Devlin et al. 2019, section 3.1); its norm is as in the layers.
    >>> config = tz.get_config("bert-tiny", head=WordsSpec(activation="relu"))
    """

    module = "transformer_zoo.blocks.heads:HeadProjection"  # and then the embedding's matrix, or one of its own
    takes = ("d_model",)

    activation: Activation = "gelu"
    """After its first projection."""
    bias: bool = True
    """A bias on that projection."""


@dataclass(frozen=True, kw_only=True)
class ProjectionSpec(Spec):
    """A projection of a head before its last one, d_model to d_model.
    >>> config = tz.get_config("bert-tiny", head=TokensSpec(labels=("O", "name"), projection=ProjectionSpec()))
    """

    module = "transformer_zoo.blocks.heads:HeadProjection"
    takes = ("d_model",)

    activation: Activation = "tanh"
    """After it."""
    bias: bool = True
    """A bias on it."""
    norm: NormSpec | None = None
    """After the activation."""


@dataclass(frozen=True, kw_only=True)
class LabelsSpec(HeadSpec):
    """Base of the heads that give labels."""

    labels: tuple[str, ...]
    """Their names, in the order of the logits."""
    projection: ProjectionSpec | None = None
    """What comes before the last projection, if anything does."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.labels:
            raise UserError("labels is empty, and a head has one at least")

    def arguments(self, context: Context) -> dict[str, Any]:
        given = super().arguments(context)
        return {"n_labels": len(given.pop("labels")), **given}


@dataclass(frozen=True, kw_only=True)
class TextsSpec(LabelsSpec):
    """Labels of a whole text, of one of its vectors (Devlin et al. 2019, section 4.1).
    >>> config = tz.get_config("bert-tiny", head=TextsSpec(labels=("bad", "good")))
    """

    module = "transformer_zoo.blocks.heads:LabelHead"
    takes = ("d_model", "dropout")

    projection: ProjectionSpec | None = ProjectionSpec()
    """What comes before the last projection, if anything does; BERT calls it a pooler."""
    pooling: Literal["first", "mean"] = "first"
    """The vector that is read: that of the first token, or the mean over all."""
    problem: Literal["one", "several", "values"] = "one"
    """"one": a text has one of the labels, and their probabilities add up to 1; "several": it has each or has it not;
    "values": each is a measure, such as of likeness, and no probability."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.problem == "one" and len(self.labels) == 1:
            raise UserError("problem is 'one', and of one label there is no choice: 'several' or 'values'")

    def arguments(self, context: Context) -> dict[str, Any]:
        given = super().arguments(context)
        del given["problem"]
        return given


@dataclass(frozen=True, kw_only=True)
class TokensSpec(LabelsSpec):
    """A label of each token, such as of which name it is part (Devlin et al. 2019, section 5.3).
    >>> config = tz.get_config("bert-tiny", head=TokensSpec(labels=("O", "person")))
    """

    module = "transformer_zoo.blocks.heads:LabelHead"
    takes = ("d_model", "dropout")
