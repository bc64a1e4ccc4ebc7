"""Adapt a small network on the built-in streets and draw the result: `python scripts/demo.py --help`."""

from mfm_hf.commands.demo import main

if __name__ == "__main__":
    main()
