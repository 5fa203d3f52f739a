"""Norms."""

from dataclasses import dataclass
from typing import Any, Literal

from transformer_zoo.config.spec import Context, Spec
from transformer_zoo.errors import UserError


@dataclass(frozen=True, kw_only=True)
class NormSpec(Spec):
    """Base of all norms."""

    eps: float = 1e-5
    """Added to the variance under the square root."""
    unit_offset: bool = False
    """Whether it multiplies by 1 + weight, with a weight that starts at zero, as in Gemma."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.unit_offset and getattr(self, "learned", None) == "nothing":
            raise UserError("norm.unit_offset has no effect where norm.learned is nothing: leave it out")


@dataclass(frozen=True, kw_only=True)
class LayerNormSpec(NormSpec):
    """LayerNorm, as in the paper (Ba et al. 2016).
    >>> config = tz.get_config("gpt-nano", norm=LayerNormSpec(learned="weight"))
    """

    module = "transformer_zoo.blocks.norm:LayerNorm"
    takes = ("d_model",)

    learned: Literal["weight and bias", "weight", "nothing"] = "weight and bias"
    """Whether it has a scale and a shift, a scale only, or neither."""

    def arguments(self, context: Context) -> dict[str, Any]:
        affine, bias = self.learned != "nothing", self.learned == "weight and bias"
        given = {"d_model": context.d_model, "eps": self.eps, "unit_offset": self.unit_offset}
        return {**given, "affine": affine, "bias": bias}


@dataclass(frozen=True, kw_only=True)
class RMSNormSpec(NormSpec):
    """RMSNorm, which does not centre (Zhang & Sennrich 2019).
    >>> config = tz.get_config("gpt-nano", norm=RMSNormSpec(eps=1e-6))
    """

    module = "transformer_zoo.blocks.norm:RMSNorm"
    takes = ("d_model",)

    learned: Literal["weight", "nothing"] = "weight"
    """Whether it has a scale."""

    def arguments(self, context: Context) -> dict[str, Any]:
        affine = self.learned == "weight"
        return {"d_model": context.d_model, "eps": self.eps, "affine": affine, "unit_offset": self.unit_offset}
