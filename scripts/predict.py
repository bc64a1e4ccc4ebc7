"""Segment images with a checkpoint; the same as `mfm-hf predict`."""

from mfm_hf.commands.predict import main

if __name__ == "__main__":
    main()
