"""Which browser there is."""

import os
import shutil

from transformer_zoo.errors import UserError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str:
    """An installed Chromium, or the one that CHROMIUM names. UserError: there is none, and how to get it."""
    found = shutil.which(os.environ.get("CHROMIUM", "")) or next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        raise UserError("found no Chromium: `apt-get install chromium`, or name one with CHROMIUM=...")
    return found
