"""The books of a run: its folder, checkpoints, log, signals, evaluations. What is trained is the room around it."""
