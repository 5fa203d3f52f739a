"""What pyproject.toml cannot say: the wheel carries recipes and scripts, and its page links that hold anywhere."""

import re
import tomllib
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("recipes/*/train.py", "recipes/*/*.yaml", "data/*/prepare.py")


class WithRecipes(build_py):
    """The package, and in it, as `shipped`, copies of what lies beside it here (transformer_zoo/cli/shipped.py)."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        for path in sorted(path for pattern in SHIPPED for path in Path().glob(pattern)):
            copy = Path(self.build_lib, "transformer_zoo", "shipped", path)
            copy.parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(str(path), str(copy))


def linked(page: str, source: str | None) -> str:
    """The page with its pictures and links into the repository made absolute; where that has no address, without
    pictures, and with the places' names."""
    link = re.compile(r"(?<!!)\[([^]]*)\]\((?!\w+:)([^)]+)\)")
    picture = re.compile(r"!\[([^]]*)\]\((?!\w+:)([^)]+)\)\n*")
    page = picture.sub(lambda found: f"![{found[1]}]({source}/raw/main/{found[2]})\n\n" if source else "", page)
    return link.sub(rf"[\1]({source}/blob/main/\2)" if source else r"\1", page)


project = tomllib.loads(Path("pyproject.toml").read_text(encoding="utf-8"))["project"]
setup(
    cmdclass={"build_py": WithRecipes},
    long_description=linked(Path("README.md").read_text(encoding="utf-8"), project.get("urls", {}).get("Source")),
    long_description_content_type="text/markdown",
)
