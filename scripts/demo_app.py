"""Try checkpoints on images in the browser: `python scripts/demo_app.py --help`."""

from mfm_hf.commands.demo_app import main

if __name__ == "__main__":
    main()
