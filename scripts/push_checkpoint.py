"""Upload a checkpoint to the Hub; the same as `mfm-hf push`."""

from mfm_hf.commands.push import main

if __name__ == "__main__":
    main()
