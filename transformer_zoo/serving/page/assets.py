"""The files of the page: HTML, style and scripts beside this file."""

from pathlib import Path

from fastapi import APIRouter, Response
from fastapi.responses import FileResponse

from transformer_zoo.serving.refusals import Refusal

FOLDER = Path(__file__).parent / "static"
_TYPES = {".css": "text/css", ".html": "text/html", ".js": "text/javascript", ".svg": "image/svg+xml"}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cache-Control": "no-cache",
}
"""No inline scripts, nothing from elsewhere, and no text that becomes markup, whatever a script tries."""

files = APIRouter()
_NAMES = {path.name: path for path in FOLDER.iterdir()}


@files.get("/")
async def home() -> Response:
    """The page."""
    return _file("index.html")


@files.get("/static/{name}")
async def static(name: str) -> Response:
    """A script, the style or the icon. Refusal: there is no such file."""
    return _file(name)


def _file(name: str) -> Response:
    if (path := _NAMES.get(name)) is None:
        raise Refusal(404, "the page has no such file")
    return FileResponse(path, media_type=_TYPES[path.suffix], headers=HEADERS)
