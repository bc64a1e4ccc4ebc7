"""The frame of every command's options."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Adds the default to each line of help, except where there is none, and keeps the lines of the description."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default is None else super()._get_help_string(action)


def program_name(command: str, script: str) -> str:
    """Return how the user has called a command: `mfm-hf COMMAND`, or as the script that does the same."""
    return f"python {sys.argv[0]}" if Path(sys.argv[0]).name == script else f"mfm-hf {command}"


def command_parser(command: str, script: str, description: str) -> argparse.ArgumentParser:
    """Return a parser that calls itself as the user has called it: `mfm-hf evaluate`, or the name of a script.

    Args:
        command: The word after `mfm-hf`.
        script: The file in `scripts/` that does the same.
        description: What the command does, and an example.
    """
    prog = program_name(command, script)
    return argparse.ArgumentParser(
        prog=prog, description=description.format(prog=prog), formatter_class=HelpFormatter, allow_abbrev=False
    )


def positive_int(text: str) -> int:
    """Read a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)
