"""The segmentation networks. They know nothing of training."""
