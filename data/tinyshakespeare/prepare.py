"""Writes Tiny Shakespeare: the first 90 % of the characters are train, the rest is val, as in nanoGPT."""

import hashlib
import urllib.request
from pathlib import Path

from transformer_zoo.data import TextFiles
from transformer_zoo.data.corpora import find_all, run, write_text
from transformer_zoo.errors import UserError

SOURCE = (
    "https://raw.githubusercontent.com/karpathy/char-rnn/6f9487a6fe5b420b7ca9afb0d7c078e37c1d1b4e/"
    "data/tinyshakespeare/input.txt"
)
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"


def download(url: str) -> str:
    """The text at an address. UserError: it cannot be downloaded, or is another text."""
    print(f"downloading {url}", flush=True)
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            content: bytes = answer.read()
    except OSError as error:
        raise UserError(f"{url}: {error}; a local input.txt can be given with --from DIR") from None
    if hashlib.sha256(content).hexdigest() != SHA256:
        raise UserError(f"{url}: not Tiny Shakespeare as it used to be there (SHA-256 differs)")
    return content.decode()


def prepare(from_: Path | None = None, url: str = SOURCE, out: Path = Path(__file__).parent) -> None:
    """Write Tiny Shakespeare as train.txt (1,003,854 characters) and val.txt (111,540).

    Args:
        from_: folder with input.txt, plain or .gz; without it the file is downloaded (1 MB).
        url: address of the file; the download is compared with the file's SHA-256.
        out: folder for train.txt and val.txt; by default the script's own.
    """
    if from_ is not None:
        (path,) = find_all(from_, ["input.txt"])
        text = "".join(TextFiles(path=str(path)).texts())
    else:
        text = download(url)
    middle = len(text) * 9 // 10
    write_text(out / "train.txt", [text[:middle]])
    write_text(out / "val.txt", [text[middle:]])


if __name__ == "__main__":
    run(prepare)
