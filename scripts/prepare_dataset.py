"""Resize and encode a domain once, as Parquet shards; the same as `mfm-hf prepare`."""

from mfm_hf.commands.prepare import main

if __name__ == "__main__":
    main()
