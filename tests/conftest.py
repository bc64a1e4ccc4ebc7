"""No test needs a network; what a test writes stays in its temporary folder."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"

import pytest
import torch

pytest_plugins = ["tests.hub_server"]


@pytest.fixture(autouse=True)
def seed() -> None:
    torch.manual_seed(0)
