"""`python -m mfm_hf train ...`, for launchers that take a module: `accelerate launch -m mfm_hf train ...`."""

from mfm_hf.commands import main

main()
