import json

import pytest

from mfm_hf.benchmarking.inference import measure_inference
from mfm_hf.benchmarking.tables import inference_table
from mfm_hf.uda.training_args import UdaTrainingArguments


@pytest.mark.parametrize("model", ["segformer", "daformer", "hrda"])
def test_mfm_costs_nothing_at_inference(model: str, args: UdaTrainingArguments) -> None:
    args.model, args.crop_size = model, [64]
    result = measure_inference(args, (64, 96), batch_sizes=[1, 2], window=64, repeats=1)
    with_mfm, without = result["mfm"]["with MFM"], result["mfm"]["without MFM"]
    assert with_mfm["parameters"] == without["parameters"] > 0
    assert with_mfm["flops"] == without["flops"] > 0
    ways = [(speed["precision"], speed["batch_size"], speed["window_batch_size"]) for speed in result["speeds"]]
    assert ways == [(name, *way) for name in ("float32", "bfloat16") for way in ((1, 1), (2, 1), (1, 1), (1, 2))]
    json.dumps(result)  # for the file
    assert inference_table(result).count("windows of 64") == 4
