import json
from contextlib import nullcontext

import pytest

from mfm_hf.benchmarking import inference
from mfm_hf.benchmarking.inference import measure_inference
from mfm_hf.benchmarking.machine import Machine
from mfm_hf.benchmarking.tables import inference_table
from mfm_hf.uda.training_args import UdaTrainingArguments


@pytest.fixture(autouse=True)
def _machine_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its large matrix products take seconds."""
    monkeypatch.setattr(inference, "describe_machine", lambda device, dtypes: Machine("a processor", 1, "", {}))


@pytest.mark.parametrize("model", ["segformer", "daformer", "hrda"])
def test_mfm_costs_nothing_at_inference(model: str, args: UdaTrainingArguments) -> None:
    args.model, args.crop_size = model, [64]
    result = measure_inference(args, (64, 64), batch_sizes=[1], window=None, repeats=1)
    with_mfm, without = result["mfm"]["with MFM"], result["mfm"]["without MFM"]
    assert with_mfm["parameters"] == without["parameters"] > 0
    assert with_mfm["flops"] == without["flops"] > 0


def test_every_way_is_measured(args: UdaTrainingArguments, monkeypatch: pytest.MonkeyPatch) -> None:
    args.model, args.compile = "segformer", True
    monkeypatch.setattr(inference, "compiled", nullcontext)  # it takes minutes
    result = measure_inference(args, (32, 48), batch_sizes=[1, 2], window=32, repeats=1)
    ways = [
        tuple(speed[name] for name in ("batch_size", "window_batch_size", "window_blending", "compiled"))
        for speed in result["speeds"]
    ]
    whole = [(1, 1, None, False), (2, 1, None, False)]
    windows = [(1, 1, "uniform", False), (1, 1, "gaussian", False), (1, 2, "uniform", False)]
    assert ways == 2 * [*whole, *windows, (1, 1, None, True), (1, 1, "uniform", True)]
    assert {speed["precision"] for speed in result["speeds"][:7]} == {"float32"}
    json.dumps(result)  # for the file
    table = inference_table(result)
    assert table.count("windows of 32, 1 at once, gaussian") == 2
    assert "| float32, compiled | whole |" in table
    assert result["compile_seconds"].keys() == {"float32", "bfloat16"}
    assert "Compiling adds to the first batch: " in table
