"""Options of the benchmarks, which run with what they were given or not at all."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser, Namespace


def parsed(parser: ArgumentParser, arguments: Sequence[str], **least: int) -> Namespace:
    """The options of a benchmark. A whole number below 1, or below what `least` says of it, ends the program with one
    line, unless it is a seed."""
    options = parser.parse_args(list(arguments))
    for name, value in options.items():
        bound, numbers = least.get(name, 1), value if isinstance(value, list) else [value]
        if not name.startswith("seed") and any(type(number) is int and number < bound for number in numbers):
            parser.error(f"--{name.replace('_', '-')} must be at least {bound}")
    return options
