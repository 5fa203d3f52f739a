"""How a recipe says which tokenizer it wants."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers.kinds import KINDS, kind_of

ModelType = Literal["bpe", "unigram"]
Normalization = Literal["nmt_nfkc", "nmt_nfkc_cf", "nfkc", "nfkc_cf", "identity"]
if TYPE_CHECKING:
    Kind = str
else:
    Kind = Literal[KINDS]

PAD_ID, UNK_ID, BOS_ID, EOS_ID = range(4)
"""The special tokens in the vocabulary of each side of a translation that is trained here."""

N_SPECIAL = 4


@dataclass(kw_only=True)
class KindSettings:
    """The fields about a tokenizer that both recipes have.

    Args:
        kind: `characters` or `words` of the training text; `bytes`; `tiktoken`: a ready-made byte-level BPE;
            `sentencepiece`: subwords trained on the training text; `huggingface`: the tokenizer of a downloaded model.
        encoding: For tiktoken: `gpt2`, `r50k_base`, `cl100k_base`, `o200k_base`, ...
        folder: Folder with Hugging Face's files, such as tokenizer.json.
        vocab_size: Number of ids. `words` keeps the most frequent ones, by default all; `sentencepiece` needs it.
        model_type: For SentencePiece: `bpe` (Sennrich et al. 2016) or `unigram` (Kudo 2018).
    """

    kind: Kind = "characters"
    encoding: str = "gpt2"
    folder: str | None = None
    vocab_size: int | None = None
    model_type: ModelType = "bpe"

    @property
    def kinds(self) -> Sequence[str]:
        """The kind of the source's tokenizer, and of the target's; or the only kind."""
        return (self.kind,)

    def check(self) -> None:
        """Raise a UserError for a field that has no effect on these kinds, or that one of them needs."""
        for name, usual in vars(type(self)()).items():
            value, kinds = getattr(self, name), self.kinds[-1:] if name.startswith("target_") else self.kinds
            setting = name.removeprefix("target_")
            has_effect = setting in ("kind", "joint") or any(setting in kind_of(kind).reads for kind in kinds)
            if value != usual and not has_effect:
                where = f"tokenizer.kind is {' and '.join(dict.fromkeys(kinds))}"
                raise UserError(f"tokenizer.{name} is {value}, and has no effect where {where}: leave it out")
        for kind in self.kinds:
            for name in kind_of(kind).needs:
                if getattr(self, name) is None:
                    raise UserError(f"tokenizer.{name}: kind {kind!r} needs one")


@dataclass(kw_only=True)
class TokenizerSettings(KindSettings):
    """How text becomes tokens.
    >>> make_tokenizer(TokenizerSettings(kind="words", end_of_text=False), ["to be or not to be"]).words
    ['be', 'to', 'not', 'or']

    Args:
        end_of_text: Whether `characters` and `words` have an id for the end of a document. Without it documents follow
            each other with nothing between; the other kinds always have one.
        training_characters: SentencePiece is trained on this many characters from the beginning of the text.
    """

    end_of_text: bool = True
    training_characters: int = 50_000_000


USUAL = TokenizerSettings()


@dataclass(kw_only=True)
class TranslationTokenizerSettings(KindSettings):
    """How the tokenizers of a translation are made, for the source and for the target.
    >>> TranslationTokenizerSettings(kind="bytes", joint=False, target_kind="characters").kinds
    ('bytes', 'characters')

    Args:
        vocab_size: Number of ids, the four special ones included, of the joint vocabulary or of the source's.
        target_kind: Kind of the target's tokenizer if `joint` is false; by default the source's.
        target_vocab_size: Number of ids of the target's vocabulary if `joint` is false; by default as many as the
            source's.
        joint: One vocabulary for both languages (embeddings may then be shared), or one for each.
        character_coverage: Share of the characters that get a piece. Rarer characters become unknown, and no
            translation has them. With 1.0 every character of the training targets can be written.
        byte_fallback: Spell unknown characters in UTF-8 bytes (256 more pieces), so that nothing is unknown.
        normalization: For sources: `nmt_nfkc` makes similar characters and spaces equal, `_cf` also ignores case,
            `identity` leaves text unchanged, except for white space, which becomes plain spaces.
        target_normalization: For targets, with the same values. No translation can have characters that are made equal
            here: with any value but `identity` there is no ½, m², full-width ， or ZWNJ in translations.
        sample_alpha: Subword sampling in training, 0 for none. For `bpe` it is the share of merges left out
            (BPE-dropout, Provilkov et al. 2020: 0.1). For `unigram` it is the smoothing (Kudo 2018: 0.1 to 0.5); a
            smaller value varies more.
        training_lines: Train the vocabulary on this many lines, drawn at random; 0 for all of them.
    """

    kind: Kind = "sentencepiece"
    vocab_size: int = 8000
    target_kind: Kind | None = None
    target_vocab_size: int | None = None
    joint: bool = True
    character_coverage: float = 1.0
    byte_fallback: bool = False
    normalization: Normalization = "nmt_nfkc"
    target_normalization: Normalization = "identity"
    sample_alpha: float = 0.0
    training_lines: int = 0

    @property
    def kinds(self) -> Sequence[str]:
        return self.kind, self.target_kind or self.kind

    def check(self) -> None:
        super().check()
        for name, what in (("vocab_size", "size"), ("kind", "kind")):
            if self.joint and getattr(self, f"target_{name}") not in (None, getattr(self, name)):
                raise UserError(
                    f"tokenizer.target_{name}: a joint vocabulary has one {what}; leave it out or set joint: false"
                )

    @property
    def expected_size(self) -> int:
        """Number of ids of the source, as far as these settings say; 0 for a kind that has its own number."""
        return self.vocab_size if "vocab_size" in kind_of(self.kind).reads else 0

    def of_kind(self, kind: str, vocab_size: int) -> TokenizerSettings:
        """Settings for a vocabulary of this many ids, including the special ids, which the tokenizer gets later."""
        given = {"encoding": self.encoding, "folder": self.folder, "model_type": self.model_type}
        size = vocab_size - N_SPECIAL if "vocab_size" in kind_of(kind).reads else None
        return TokenizerSettings(kind=kind, vocab_size=size, end_of_text=False, **given)  # type: ignore[arg-type]
