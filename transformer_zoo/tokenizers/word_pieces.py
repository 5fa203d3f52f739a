"""BERT's tokenizer from its list of words, for models without a tokenizer.json."""

from tokenizers import AddedToken, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as FastTokenizer

from transformer_zoo.errors import UserError
from transformer_zoo.tokenizers.files import TokenizerFiles

_CLASSES = ("", "BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer")
_SPECIAL = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}


def word_pieces(files: TokenizerFiles) -> FastTokenizer:
    """Words cut into their longest known beginnings (Schuster and Nakajima 2012), from vocab.txt, a token a line.

    Raises:
        UserError: a tokenizer of another kind that has such a list too, or a special token that is not in it.
    """
    if files.tokenizer_class not in _CLASSES:
        raise UserError(f"{files.folder}: {files.tokenizer_class} without a tokenizer.json is not read")
    lines = files.bytes_of("vocab.txt").decode("utf-8", "replace").removesuffix("\n").split("\n")
    ids = {line.rstrip("\r"): i for i, line in enumerate(lines)}
    special = {role: files.token(f"{role}_token") or usual for role, usual in _SPECIAL.items()}
    if missing := [token for token in special.values() if token not in ids]:
        raise UserError(f"{files.folder / 'vocab.txt'} has no {missing[0]}: it is damaged, or of another tokenizer")
    said = files.settings
    made = FastTokenizer(models.WordPiece(ids, unk_token=special["unk"]))
    made.normalizer = normalizers.BertNormalizer(
        lowercase=bool(said.get("do_lower_case", True)),
        strip_accents=said.get("strip_accents"),
        handle_chinese_chars=bool(said.get("tokenize_chinese_chars", True)),
    )
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens([AddedToken(token, special=True) for token in special.values()])
    around = [(special[role], ids[special[role]]) for role in ("sep", "cls")]
    made.post_processor = processors.BertProcessing(*around)
    return made
