"""Renders a chat template by an unknown author, as a program of its own that can be stopped whatever it does.

A request comes as JSON on standard input: template, values, and limits of seconds, bytes and characters. The answer
goes as JSON to standard output: text or error. Nothing of this package is imported, so that the program starts
fast.
"""

import json
import sys
from contextlib import suppress
from datetime import datetime
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace


class Generation(Extension):
    """`{% generation %}`, which surrounds what a model is to write, and gives what is inside."""

    tags = {"generation"}  # noqa: RUF012  (as the base has it)

    def parse(self, parser: Parser) -> nodes.Node:
        """Its body, in a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("inside"), [], [], body).set_lineno(line)

    def inside(self, caller: Macro) -> str:
        """The text of the body."""
        return str(caller())


class Names(Namespace):
    """`namespace` of templates, without names that begin with _, through which they could reach Python's own
    objects."""

    def __init__(*args: Any, **values: Any) -> None:  # a value may be called self
        for name in dict(*args[1:], **values):
            check_name(name)
        Namespace.__init__(*args, **values)

    def __setitem__(self, name: str, value: Any) -> None:
        check_name(name)
        super().__setitem__(name, value)


def check_name(name: str) -> None:
    """SecurityError: it begins with _."""
    if str(name).startswith("_"):
        raise SecurityError(f"a namespace has no {name!r}")


def refuse(message: str) -> None:
    """`raise_exception` of templates."""
    raise TemplateError(message)


def as_json(value: Any, ensure_ascii: bool = False, **how: Any) -> str:
    """`tojson` of templates: unlike jinja2's own it escapes nothing for HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **how)


def render(template: str, values: dict[str, Any], longest: int) -> str:
    """The text of a template, of at most this many characters."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = as_json
    environment.globals |= {"namespace": Names, "dict": lambda *args, **values: dict(*args, **values)}
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    parts, length = [], 0
    for part in environment.from_string(template).generate(**values):
        parts.append(part)
        length += len(part)
        if length > longest:
            raise TemplateError(f"it writes more than {longest:,} characters")
    return "".join(parts)


def limit(seconds: int, n_bytes: int) -> None:
    """Limits this process's time and memory; a limit that was lower before stays."""
    import resource

    for kind, wanted in ((resource.RLIMIT_CPU, seconds), (resource.RLIMIT_AS, n_bytes)):
        hard = resource.getrlimit(kind)[1]
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with suppress(ValueError, OSError):  # not every system has all of them
            resource.setrlimit(kind, (most, most))


def main() -> None:
    """One request."""
    request = json.load(sys.stdin)
    with suppress(ImportError):  # not on Windows
        limit(request["seconds"], request["bytes"])
    try:
        answer = {"text": render(request["template"], request["values"], request["longest"])}
    except Exception as error:  # whatever error a template causes
        answer = {"error": str(error)[:500] or type(error).__name__}
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
