"""Measure speed on this machine; the same as `mfm-hf benchmark`."""

from mfm_hf.commands.benchmark import main

if __name__ == "__main__":
    main()
