"""The parser of all command lines, which reports a mistake in one line."""

import re
import sys
from argparse import SUPPRESS, Action
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn

import yaml
from jsonargparse import ArgumentParser

from transformer_zoo.commandline.help import help_text
from transformer_zoo.errors import printable
from transformer_zoo.words import did_you_mean, unfit


def refuse(message: str) -> NoReturn:
    """Report a mistake in the options in one line and exit with status 2."""
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(2)


class Parser(ArgumentParser):
    """Report a mistake in an option in one line that names it as it is written, and exit with status 2."""

    dashes = True  # written before the name of an option in a message
    words: Sequence[str] = ()  # of the command line
    examples: Sequence[str] = ()  # command lines for --help
    subcommands: Mapping[str, str] = {}  # the purpose of each

    def format_help(self, formatter: object = None) -> str:
        """What --help prints."""
        return help_text(self)

    def titled(self) -> Iterator[tuple[str, Action]]:
        """All options except those that others are part of, each with a title: the section of a recipe's field."""
        for group in self._action_groups:
            for action in group._group_actions:
                if action.help == SUPPRESS or action.dest == "command" or action.metavar == "CONFIG":
                    continue
                section = action.dest.rpartition(".")[0]
                yield f"{section} ({str(group.title).rstrip('.')})" if section else "More options", action

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Called with the parser's complaint about the command line."""
        refuse(self.explain(re.sub(r"\s+", " ", message).strip()))

    def check(self, given: Mapping[str, Any]) -> None:
        """Refuse numbers that no computer counts to; the parser would accept them."""
        for action in self._actions:
            value, hint = given.get(action.dest), getattr(action, "_typehint", None)
            for one in value if isinstance(value, list) else [value]:
                if isinstance(one, int | float) and (wrong := unfit(hint or type(one), one, self.shown(action))):
                    refuse(wrong)

    def shown(self, action: Any) -> str:
        """The name of an option as it is written."""
        flag = next((flag for flag in action.option_strings if flag.startswith("--")), action.dest)
        return self.bare(str(flag))

    def bare(self, flag: str) -> str:
        """A word of the command line as it appears in a message."""
        return flag if self.dashes else flag.removeprefix("--")

    def explain(self, message: str) -> str:
        """The parser's message in plainer words."""
        names = [self.bare(flag) for action in self._actions for flag in action.option_strings]
        if found := re.search(r"unrecognized arguments: (\S+)", message):
            word = found[1].partition("=")[0]
            if not word.startswith("-"):
                return f"{word} is one too many; --help lists what there is"
            shown = self.bare(word)
            return f"{shown}: no such option{did_you_mean(shown, names, '; --help lists them')}"
        if found := re.search(r"ption '([^']+)' is not accepted|does not accept option '([^']+)'", message):
            shown = found[1] or found[2]
            return f"{shown}: no such field{did_you_mean(shown, names, '; --help lists them')}"
        if found := re.search(r"invalid choice: '([^']*)' \(choose from (.*)\)", message):
            choices = re.findall(r"[^\s',]+", found[2])
            near = did_you_mean(found[1], choices, f"; there are {', '.join(choices)}")
            if "COMMAND" in message:
                return f"{found[1]}: no such command{near}"
            return f"{message.partition(':')[0].removeprefix('argument ')} {found[1]}: no such choice{near}"
        if found := re.search(r"arguments? (\S+?):? (?:expected .*argument|ignored explicit argument (.*))", message):
            shown = self.bare(found[1].rstrip(":").rpartition("/")[2])
            return f"{shown} takes no value" if found[2] else f"{shown} needs a value"
        if found := re.search(r"arguments are required: (.*)", message):
            missing = [name.rpartition(".")[2] if self.dashes else name for name in found[1].split(", ")]
            return f"{' and '.join(missing)} missing: give {'them' if len(missing) > 1 else 'it'}; --help says how"
        if found := re.search(r'Parser key "([^"]+)"', message):
            return self._of_value(found[1], message)
        return re.sub(r"<class '(?:\w+\.)*(\w+)'>|typing\.", r"\1", message)

    def _of_value(self, key: str, message: str) -> str:
        action = next((a for a in self._actions if a.dest == key), None)
        shown = key if action is None else self.shown(action)
        hint = getattr(action, "_typehint", None) or getattr(action, "type", None)
        given = re.search(r"(?:Got value|Given value): (.*)$", message)
        value: Any = self._given(action)
        value = given[1] if value is None and given else value
        if hint is not None and value is not None:
            try:
                plain = yaml.safe_load(value)
            except (yaml.YAMLError, ValueError, RecursionError):
                plain = value
            for one in (plain, value):
                if said := unfit(hint, one, shown):
                    return said
        return f"{shown}: something in it has a value where it needs fields; give them below it"

    def _given(self, action: Any) -> str | None:
        """The word that was given for an option; the last one if there are several."""
        flags = action.option_strings if action is not None else ()
        for i in reversed(range(len(self.words))):
            word, equals, value = self.words[i].partition("=")
            if word in flags:
                return value if equals else next(iter(self.words[i + 1 :]), None)
        return None
