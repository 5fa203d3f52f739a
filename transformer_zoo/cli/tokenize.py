"""`transformer-zoo tokenize`: the pieces and ids of a text."""

import json as jsonlib
from pathlib import Path

from transformer_zoo.errors import UserError


def tokenize(run: Path, text: str, target: bool = False, json: bool = False) -> None:
    """Show the pieces of a text and their ids.

    It prints a line for each piece: its id, and its text. If the ids do not give the text back, a last line has the
    text that they give. Tokens that the model reads before and after a text, such as its end, are not shown.

    Args:
        run: Folder of a run, trained here or imported.
        text: Text; for a run that translates, one line.
        target: Treat the text as a target, not as a source.
        json: Print JSON instead: ids, pieces, and the text that the ids give.

    Examples:
        transformer-zoo tokenize runs/gpt "Once upon a time"
        transformer-zoo tokenize runs/my "Der Zug" --target
        transformer-zoo tokenize runs/gpt "Once upon a time" --json
    """
    from transformer_zoo.tokenizers import Tokenizer, TranslationTokenizer
    from transformer_zoo.tokenizers.saved import Saved

    tokenizer = Saved.load(run / "tokenizer")
    if isinstance(tokenizer, TranslationTokenizer):
        tokenizer = tokenizer.target if target else tokenizer.source
    elif target:
        raise UserError(f"{run} does not translate: leave --target out")
    assert isinstance(tokenizer, Tokenizer)
    ids = tokenizer.encode(text)
    pieces, back = [tokenizer.pieces[i] for i in ids], tokenizer.decode(ids)
    if json:
        print(jsonlib.dumps({"ids": ids, "pieces": pieces, "text": back}, ensure_ascii=False))
        return
    width = max((len(str(i)) for i in ids), default=1)
    for i, piece in zip(ids, pieces, strict=True):
        print(f"{i:>{width}}  {piece!r}")
    if back != text:
        print(f"which is {back!r}")
