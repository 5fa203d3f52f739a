"""Keys: who may use the server."""

import hashlib
import hmac
from collections.abc import Sequence
from pathlib import Path

from fastapi import Request

from transformer_zoo.errors import UserError, first_line
from transformer_zoo.serving.refusals import Refusal

_SHORTEST = 16


class Keys:
    """The keys of the server; without any it is open to all.

    They are kept and compared as SHA-256, in a time that does not depend on the given key.
    >>> Keys(["correct horse battery"]).admits("correct horse battery")
    True
    """

    def __init__(self, secrets: Sequence[str] = ()) -> None:
        self._digests = [_digest(secret) for secret in secrets]

    @classmethod
    def read(cls, path: Path) -> "Keys":
        """The keys in a file, one a line; empty lines and lines that begin with # do not count.

        Raises:
            UserError: there is no such file, it has no key, or a key can be guessed.
        """
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise UserError(f"--keys {path} cannot be read: {first_line(error)}") from None
        secrets = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not secrets:
            raise UserError(f"--keys {path} has no key: write one a line, such as `openssl rand -hex 24` gives")
        for number, line in enumerate(lines, start=1):
            if line.strip() in secrets and (len(line.strip()) < _SHORTEST or not line.strip().isascii()):
                raise UserError(f"--keys {path}:{number}: a key has {_SHORTEST} letters of ASCII at least")
        return cls(secrets)

    def admits(self, given: str | None) -> bool:
        """Whether it is one of the keys."""
        if not self._digests:
            return True
        digest = _digest(given or "")
        return any([hmac.compare_digest(digest, one) for one in self._digests])  # a list, so that all are compared


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def keyed(request: Request) -> None:
    """The dependency of routes that need a key. Refusal: no key is given."""
    check_key(request)


def check_key(request: Request, given: str | None = None) -> None:
    """Refusal: neither `Authorization: Bearer` nor the given text is a key of the server."""
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    keys: Keys = request.app.state.serving.keys
    if not keys.admits(given if given is not None else token.strip() if kind.lower() == "bearer" else None):
        raise Refusal(401, "a key is needed: Authorization: Bearer KEY", code="invalid_api_key")
