"""Export a checkpoint for ONNX Runtime or torch.export; the same as `mfm-hf export`."""

from mfm_hf.commands.export import main

if __name__ == "__main__":
    main()
