import pytest

from mfm_hf.benchmarking.loss_curves import BFLOAT16, FLOAT32, PLAIN, compare_losses
from mfm_hf.benchmarking.tables import losses_table
from mfm_hf.uda.training_args import UdaTrainingArguments


def test_all_ways_learn_alike(args: UdaTrainingArguments) -> None:
    result = compare_losses(args, steps=3)
    curves = result["losses"]
    assert {name: len(curve) for name, curve in curves.items()} == {PLAIN: 3, FLOAT32: 3, BFLOAT16: 3}
    assert curves[FLOAT32] == pytest.approx(curves[PLAIN], rel=1e-3)
    assert curves[BFLOAT16] == pytest.approx(curves[PLAIN], rel=3e-2)
    assert curves[BFLOAT16] != curves[FLOAT32]
    assert "| bf16 to float32 |" in losses_table(result)
