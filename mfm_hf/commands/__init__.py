"""The commands. `mfm-hf NAME ...` does what the script of the same purpose does; each module has a `main`."""

from __future__ import annotations

import importlib
import sys

# The word after `mfm-hf`, which is also the module's name, and what the command is for.
COMMANDS = {
    "train": "adapt a network from a source domain to a target domain",
    "evaluate": "measure a checkpoint on a domain",
    "predict": "segment images and draw what was found",
    "benchmark": "measure speed on this machine, beside plain baselines",
    "prepare": "resize and encode a domain once, as Parquet that is read fast and streams",
    "compare": "train the runs of a suite with several seeds, and lay them out in one table",
    "preview": "draw a contact sheet of a domain",
    "convert": "turn a checkpoint of the reference code bases into one of transformers, or back",
    "export": "write a checkpoint as a file for ONNX Runtime or torch.export",
    "push": "upload a checkpoint to the Hub",
    "demo": "adapt a small network on the built-in streets, and draw the result",
    "demo_app": "try checkpoints on images in the browser",
}


def main() -> None:
    """Run the command that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else "--help"
    if name == "--version":
        from mfm_hf._version import __version__

        print(__version__)
    elif name in COMMANDS:
        importlib.import_module(f"mfm_hf.commands.{name}").main(sys.argv[2:])
    else:
        lines = [f"  {command:10}{purpose}" for command, purpose in COMMANDS.items()]
        print("usage: mfm-hf COMMAND [options]\n\ncommands:", *lines, sep="\n")
        print("\n`mfm-hf COMMAND --help` tells more.")
        if name not in ("-h", "--help"):
            print(f"\nerror: there is no command {name!r}", file=sys.stderr)
            raise SystemExit(2)
