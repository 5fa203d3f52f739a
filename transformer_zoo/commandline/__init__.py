"""The one builder of command lines and recipes: functions and dataclasses become options, and a mistake becomes one
line."""

from transformer_zoo.commandline.functions import parse_call, run_command
from transformer_zoo.commandline.parser import Parser, refuse
from transformer_zoo.commandline.recipes import parse_recipe, read_yaml

__all__ = ["Parser", "parse_call", "parse_recipe", "read_yaml", "refuse", "run_command"]
