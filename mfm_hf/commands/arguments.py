"""Flags from the fields of a dataclass, and a YAML file for any of them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from transformers import HfArgumentParser


class ConfigArgumentParser(HfArgumentParser):
    """`HfArgumentParser` with `--config FILE.yaml`, and with `--no_x` for every on/off flag.

    What the file says is turned into flags that stand before those of the command line. So it is checked and converted
    by the same rules (YAML itself would leave `6e-5` a string), and the command line wins.
    """

    def __init__(self, dataclass_type: type, **kwargs: Any) -> None:
        super().__init__(dataclass_type, allow_abbrev=False, **kwargs)
        self.add_argument("--config", metavar="FILE.yaml", help="File with any of the options, one per line.")

    @staticmethod
    def _parse_dataclass_field(parser: argparse.ArgumentParser, field: dataclasses.Field) -> None:
        HfArgumentParser._parse_dataclass_field(parser, field)
        if field.type is bool and field.default is False:  # the library adds the negation only to a True default
            parser.add_argument(f"--no_{field.name}", action="store_false", dest=field.name, help=argparse.SUPPRESS)

    def parse(self, argv: Sequence[str]) -> Any:
        """Return the dataclass that the arguments make, those of `--config` among them.

        Raises:
            ValueError: If the file is not a mapping of options, or a value is out of its range.
            OSError: If the file cannot be read.
            SystemExit: If argparse refuses an argument; its message says which.
        """
        finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        finder.add_argument("--config")
        known, rest = finder.parse_known_args(argv)
        from_file = [] if known.config is None else config_flags(Path(known.config))
        (arguments,) = self.parse_args_into_dataclasses([*from_file, *rest], look_for_args_file=False)[:1]
        return arguments


def config_flags(path: Path) -> list[str]:
    """Return the flags that a YAML file of options stands for.

    Raises:
        ValueError: If it is not a mapping of options to values.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold lines of the form `option: value`")
    flags: list[str] = []
    for name, value in content.items():
        match value:
            case None:
                continue
            case bool():
                flags.append(f"--{name}" if value else f"--no_{name}")
            case list():
                flags += [f"--{name}", *map(str, value)]
            case _:
                flags += [f"--{name}", str(value)]
    return flags
