"""Bodies that the page sends."""

from typing import Annotated, Any, Literal

from pydantic import Field

from transformer_zoo.serving.bodies import Fields, Name
from transformer_zoo.serving.openai_fields import Count, WritingFields

Id = Annotated[int, Field(ge=0)]
Code = Annotated[str, Field(max_length=40)]
Word = Annotated[str, Field(max_length=100)]
Words = Annotated[list[Word], Field(max_length=20)]


class ModelFields(Fields):
    """The model that is asked."""

    model: Name


class TranslationFields(ModelFields):
    """A text to translate, or a part of one whose translation begins with `prefix`."""

    text: str
    prefix: list[Id] = Field(default_factory=list)
    source_lang: Code | None = None
    target_lang: Code | None = None
    beam: Annotated[int, Field(ge=1, le=50)] = 5
    n_best: Annotated[int, Field(ge=1, le=20)] = 1

    @property
    def languages(self) -> dict[str, Any]:
        """The languages that are chosen."""
        return {"source_lang": self.source_lang, "target_lang": self.target_lang}


class TextFields(ModelFields):
    """A text as token ids, without the ids that the tokenizer puts before each text."""

    ids: list[Id]


class WriteFields(WritingFields):
    """How a text, or token ids, are continued."""

    model: Name
    text: str = ""
    ids: list[Id] = Field(default_factory=list)
    max_new_tokens: Count = 100


class AttentionFields(ModelFields):
    """The attention that is shown; without a kind, that of a translation to its source if there is one."""

    text: str
    target: str | None = None
    kind: Literal["encoder", "decoder", "cross"] | None = None
    layer: Annotated[int, Field(ge=0)] | None = None


class NeighbourFields(ModelFields):
    """The words near a word, or near word + plus - minus."""

    word: Word
    plus: Words = Field(default_factory=list)
    minus: Words = Field(default_factory=list)
