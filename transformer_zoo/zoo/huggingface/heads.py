"""Heads of encoders: the head that a file's architecture names, and what its fields say about the labels."""

from typing import Any

from transformer_zoo.config import EncoderConfig, ProjectionSpec, TextsSpec, TokensSpec, WordsSpec
from transformer_zoo.config.feed_forward import Activation
from transformer_zoo.config.heads import HeadSpec, LabelsSpec
from transformer_zoo.errors import UserError
from transformer_zoo.zoo.huggingface.family import Field, Fields, Part
from transformer_zoo.zoo.huggingface.parts import listed

NO_HEAD: dict[str, Any] = {"head": None, "tie_embeddings": True}
_TASKS: dict[type[HeadSpec] | None, str] = {
    None: "Model", WordsSpec: "ForMaskedLM", TextsSpec: "ForSequenceClassification",
    TokensSpec: "ForTokenClassification",
}  # fmt: skip
_PROBLEMS = {
    "single_label_classification": "one", "multi_label_classification": "several", "regression": "values"
}  # fmt: skip
_MOST_LABELS = 100_000


def heads(stem: str, *, words: Activation | None = None, texts: ProjectionSpec | None = None) -> Part:
    """The head of an encoder, by its class in transformers, which is `stem` and a purpose. If no known class is named,
    it is the head for words.

    words: the activation of the head for words; None: that of the layers.
    texts: the part of a head for texts before its last projection.
    """

    def read(theirs: Fields, ours: Fields) -> dict[str, Any]:
        if theirs.get("type_vocab_size", 2) is None:  # a model without any has another model_type
            raise UserError("config.json: type_vocab_size is null, and must be how many kinds of texts there are")
        name = str(listed(theirs.get("architectures"))[0])
        if name.endswith(_TASKS[None]):
            return NO_HEAD
        if name.endswith(_TASKS[TokensSpec]):
            return {**NO_HEAD, "head": TokensSpec(labels=_labels(theirs))}
        if name.endswith(_TASKS[TextsSpec]):
            labels = _labels(theirs)
            return {**NO_HEAD, "head": TextsSpec(labels=labels, projection=texts, problem=_problem(theirs, labels))}
        return {"head": WordsSpec(activation=words or ours["activation"])}

    def write(config: EncoderConfig) -> dict[str, Any]:
        head = config.head
        fields: dict[str, Any] = {"architectures": [stem + _TASKS[None if head is None else type(head)]]}
        if isinstance(head, LabelsSpec):
            fields["id2label"] = {str(i): label for i, label in enumerate(head.labels)}
            fields["label2id"] = {label: i for i, label in enumerate(head.labels)}
        if isinstance(head, TextsSpec):
            fields["problem_type"] = next(name for name, problem in _PROBLEMS.items() if problem == head.problem)
        return fields

    names = {"architectures": list, "id2label": dict, "num_labels": int, "problem_type": str}
    return Part(names, read, write, limits=("id2label", "num_labels", "problem_type"))


def _labels(theirs: Fields) -> tuple[str, ...]:
    """The labels' names; if there are none, transformers' default names of two labels."""
    named, n = theirs.get("id2label"), theirs.get("num_labels")
    if named is None:
        return tuple(f"LABEL_{i}" for i in range(min(2 if n is None else n, _MOST_LABELS)))
    by_number = {int(number): str(label) for number, label in named.items()}
    if sorted(by_number) != [*range(len(by_number))]:
        raise UserError(f"config.json: id2label must number its labels from 0 on, and has {', '.join(named)}")
    if n not in (None, len(by_number)):
        raise UserError(f"config.json: num_labels is {n}, and id2label has {len(by_number)}")
    return tuple(by_number[i] for i in range(len(by_number)))


def _problem(theirs: Fields, labels: tuple[str, ...]) -> Any:
    """The kind of labels; if nothing says it, the kind that the pipeline of transformers assumes."""
    return Field("problem_type", None, {None: "several" if len(labels) == 1 else "one", **_PROBLEMS}).read(theirs)
