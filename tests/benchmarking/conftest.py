from collections.abc import Iterator

import pytest
from accelerate.state import AcceleratorState

from mfm_hf.uda.training_args import UdaTrainingArguments


@pytest.fixture
def args() -> UdaTrainingArguments:
    """Of a run with a tiny network."""
    return UdaTrainingArguments(
        recipe="daformer",
        backbone="tiny",
        crop_size=[32],
        use_cpu=True,
        mfm=True,
        mfm_dim=32,
        mfm_grid=[4],
        dataloader_num_workers=0,
    )


@pytest.fixture(autouse=True)
def _precision_is_free() -> Iterator[None]:
    """Let a test choose its precision, which Accelerate keeps for the whole process."""
    AcceleratorState._reset_state()
    yield
    AcceleratorState._reset_state()
