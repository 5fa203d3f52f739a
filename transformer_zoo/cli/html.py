"""Pages that are one file, load nothing from elsewhere and have no script; and what goes into them."""

import base64
import struct
import zlib
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformer_zoo.errors import UsageError, UserError
from transformer_zoo.files import check_folder, write_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Colours of cividis (Nuñez et al. 2018) from 0 to 1; other colours are interpolated.
_SCALE = (
    "00224e", "002e6a", "1a386f", "32436d", "434e6c", "52596d", "61656f", "6f7073", "7c7b78", "8b8778", "9b9376",
    "aba072", "bbad6c", "ccba64", "ddc958", "efd748", "fee838",
)  # fmt: skip
_MIDDLE = 0.179  # luminance on which black and white letters have the same contrast (WCAG 2, 1.4.3)


def check_output(path: Path, ends: tuple[str, ...]) -> None:
    """Check that a file of one of these kinds can be written there. UsageError or UserError: it cannot."""
    if path.suffix not in ends:
        raise UsageError(f"--output {path} must end in {' or '.join(ends)}, which says what is written")
    if path.is_dir() or not path.parent.is_dir():
        raise UserError(f"--output: {path} is a folder, or in one that is not there; give another name")
    check_folder("--output", path.parent)


def write_page(path: Path, template: str, **values: Any) -> None:
    """Fill in a template of `templates/`. Its values are text and never markup. The file is written completely or not
    at all."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    loader = PackageLoader("transformer_zoo.cli")
    made = Environment(loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = made.get_template(template).render(**values)
    write_bytes(path, text.encode("utf-8", "backslashreplace"))  # the name of a folder need not be Unicode


@cache
def palette() -> "NDArray[Any]":
    """256 colours for weights from 0 to 1, (256, 3) bytes."""
    import numpy as np

    known = np.array([[*bytes.fromhex(colour)] for colour in _SCALE])
    places = np.linspace(0, len(_SCALE) - 1, 256)
    return np.stack([np.interp(places, range(len(_SCALE)), part) for part in known.T], axis=-1).round().astype(np.uint8)


def colours_of(weight: float) -> tuple[str, str]:
    """A weight's colour in CSS, and the colour of letters that are readable on it."""
    colour = palette()[round(255 * min(1.0, max(0.0, weight)))]
    parts = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in colour / 255)
    luminance = sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))
    return f"#{colour.tobytes().hex()}", "#000" if luminance > _MIDDLE else "#fff"


def picture_of(weights: "NDArray[Any]") -> str:
    """Weights (rows, columns) as a picture with one dot each, in the form of an address that holds it: a PNG (RFC
    2083)."""
    import numpy as np

    levels = (255 * weights.clip(0, 1)).round().astype(np.uint8)
    rows = b"".join(b"\0" + row.tobytes() for row in levels)  # each row begins with its filter: none
    head = struct.pack(">IIBBBBB", weights.shape[1], weights.shape[0], 8, 3, 0, 0, 0)  # 8 bits, of a palette
    parts = ((b"IHDR", head), (b"PLTE", palette().tobytes()), (b"IDAT", zlib.compress(rows, 9)), (b"IEND", b""))
    png = b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*part) for part in parts)
    return address_of(png, "image/png")


def _chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def address_of(content: bytes, kind: str) -> str:
    """An address that holds the content itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
