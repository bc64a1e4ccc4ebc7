"""The reference code bases as seen in their checkpoints: DACS, DAFormer, HRDA, MIC (mmseg forks) and SegFormer."""
