"""The picture of the page that README opens with: python -m tests.web.picture RUN PICTURE."""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from transformer_zoo.errors import UserError, run_program
from transformer_zoo.runs import load_run

from .browser import chromium
from .serving import serving

TEXT = "The film starts on Friday at half past nine.\nThe book costs twenty-three euros and fifty cents."
SHADES = range(4, -1, -1)  # the least certain word is the one at which others are shown
SIZE = {"width": 1120, "height": 660}
COLOURS = 256  # of the file: it is text on paper


def main(run: Path, picture: Path) -> None:
    """Translates a sentence, asks what else could stand at a word, and takes a picture."""
    if not run.is_dir():
        raise UserError(f"{run}: no such run; make demo trains it")
    with serving({"numbers": load_run(run)}) as served, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        page = browser.new_page(viewport=SIZE, reduced_motion="reduce", color_scheme="light")
        page.goto(served.address)
        page.get_by_label("Text", exact=True).fill(TEXT)
        page.locator("#target .sentence").last.wait_for()
        page.wait_for_load_state("networkidle")
        words = [word for shade in SHADES for word in page.locator(f"#target .word:has(.unsure-{shade})").all()]
        words[0].click()
        expect(page.locator("#alternatives .rest")).to_have_count(page.locator("#alternatives .choice").count())
        taken = page.screenshot()
        browser.close()
    picture.parent.mkdir(parents=True, exist_ok=True)
    Image.open(io.BytesIO(taken)).convert("RGB").quantize(COLOURS).save(picture, optimize=True)
    print(f"{picture}: {picture.stat().st_size:,} bytes")


if __name__ == "__main__":
    sys.exit(run_program(lambda: main(*map(Path, sys.argv[1:]))))
