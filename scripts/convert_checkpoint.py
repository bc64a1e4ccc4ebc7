"""Convert a checkpoint of a reference code base, or back; the same as `mfm-hf convert`."""

from mfm_hf.commands.convert import main

if __name__ == "__main__":
    main()
