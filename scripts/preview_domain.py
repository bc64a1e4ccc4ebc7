"""Draw the first images of a domain and their labels; the same as `mfm-hf preview`."""

from mfm_hf.commands.preview import main

if __name__ == "__main__":
    main()
