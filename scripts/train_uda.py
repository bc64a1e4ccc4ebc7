"""Adapt a network from a source domain to a target domain: `accelerate launch scripts/train_uda.py --help`."""

from mfm_hf.commands.train import main

if __name__ == "__main__":
    main()
