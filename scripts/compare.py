"""Train the runs of a suite with several seeds and lay them out in one table: `python scripts/compare.py --help`."""

from mfm_hf.commands.compare import main

if __name__ == "__main__":
    main()
