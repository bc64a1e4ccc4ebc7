"""Measure a checkpoint on a domain; the same as `mfm-hf evaluate`."""

from mfm_hf.commands.evaluate import main

if __name__ == "__main__":
    main()
