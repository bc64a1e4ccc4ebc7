from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import evaluate
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.metrics import confusion_matrix

from mfm_hf.evaluation.mean_iou import MeanIoU

GOLDEN = Path(__file__).parents[1] / "golden"
NAMES = {0: "road", 1: "car", 2: "sky", 3: "train"}


def random_maps(seed: int, num_images: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    references = rng.integers(0, 4, (num_images, 13, 17)).astype(np.uint8)
    references[rng.random(references.shape) < 0.2] = 255
    return rng.integers(0, 4, references.shape), references


def test_matrix_equals_that_of_scikit_learn() -> None:
    predictions, references = random_maps(0)
    metric = MeanIoU(NAMES)
    metric.add_batch(predictions=predictions, references=references)
    counted = references != 255
    expected = confusion_matrix(references[counted], predictions[counted], labels=range(4))
    np.testing.assert_array_equal(metric.confusion_matrix.numpy(), expected)


def test_scores_equal_those_of_the_reference_implementation() -> None:
    golden = json.loads((GOLDEN / "algo_miou.json").read_text())
    tensors = load_file(GOLDEN / "algo_miou.safetensors")
    metric = MeanIoU({index: str(index) for index in range(19)})
    for image in range(3):
        metric.add(prediction=tensors[f"pred.{image}"], reference=tensors[f"gt.{image}"])
    assert torch.equal(metric.confusion_matrix, tensors["confusion"])
    scores = metric.compute()
    assert scores["mean_iou"] == pytest.approx(golden["mIoU"], abs=1e-12)
    assert scores["mean_accuracy"] == pytest.approx(golden["mAcc"], abs=1e-12)
    assert scores["overall_accuracy"] == pytest.approx(golden["aAcc"], abs=1e-12)
    for name, key in (("per_class_iou", "IoU"), ("per_class_accuracy", "Acc")):
        assert list(scores[name].values()) == [
            None if value is None else pytest.approx(value, abs=1e-12) for value in golden[key]
        ]


def test_class_that_occurs_nowhere_is_left_out_of_the_mean_and_one_only_predicted_counts_as_zero() -> None:
    scores = MeanIoU(NAMES).compute(predictions=[[[0, 0, 1, 2]]], references=[[[0, 0, 1, 1]]])
    assert scores["per_class_iou"] == {"road": 1.0, "car": 0.5, "sky": 0.0, "train": None}
    assert scores["mean_iou"] == 0.5
    assert scores["per_class_accuracy"] == {"road": 1.0, "car": 0.5, "sky": None, "train": None}
    assert scores["overall_accuracy"] == 0.75
    assert json.loads(json.dumps(scores)) == scores


@pytest.mark.parametrize("container", ["lists", "uint16 arrays", "tensors", "one by one", "maps of several sizes"])
def test_ways_of_adding_agree(container: str) -> None:
    predictions, references = random_maps(1)
    metric, expected = MeanIoU(NAMES), MeanIoU(NAMES)
    expected.add_batch(predictions=predictions, references=references)
    if container == "lists":
        metric.add_batch(predictions=predictions.tolist(), references=references.tolist())
    elif container == "uint16 arrays":
        metric.add_batch(predictions=predictions.astype(np.uint16), references=references.astype(np.uint16))
    elif container == "tensors":
        with torch.inference_mode():
            metric.add_batch(predictions=torch.tensor(predictions[:1]), references=torch.tensor(references[:1]))
        metric.add_batch(predictions=torch.tensor(predictions[1:]), references=torch.tensor(references[1:]))
    elif container == "one by one":
        for prediction, reference in zip(predictions, references, strict=True):
            metric.add(prediction=prediction, reference=reference)
    else:
        metric.add_batch(
            predictions=[predictions[0], predictions[1, :5], predictions[1, 5:], predictions[2]],
            references=[references[0], references[1, :5], references[1, 5:], references[2]],
        )
    assert torch.equal(metric.confusion_matrix, expected.confusion_matrix)
    assert len(metric) == (4 if container == "maps of several sizes" else 3)


def test_compute_starts_afresh() -> None:
    predictions, references = random_maps(2)
    metric = MeanIoU(NAMES)
    first = metric.compute(predictions=predictions, references=references)
    assert len(metric) == 0
    assert metric.compute(predictions=predictions, references=references) == first


def test_ignore_index_may_be_a_class_or_negative() -> None:
    metric = MeanIoU(NAMES, ignore_index=0)
    metric.add(prediction=[[0, 1, 2]], reference=[[0, 1, 2]])
    assert int(metric.confusion_matrix.sum()) == 2
    metric = MeanIoU(NAMES, ignore_index=-100)
    metric.add(prediction=[[0, 1]], reference=[[-100, 1]])
    assert int(metric.confusion_matrix.sum()) == 1


@pytest.mark.parametrize(
    ("prediction", "reference", "message"),
    [
        ([[4]], [[0]], "prediction 4 is not one of the 4 classes"),
        ([[-1]], [[0]], "prediction -1 "),
        ([[0]], [[77]], "reference 77 is neither .* nor the ignore index 255"),
        ([[0]], [[-2]], "reference -2 "),
        ([[0.5]], [[0]], "class ids are integers"),
        (torch.zeros(1, 1), [[0]], "class ids are integers"),
        ([[0, 1]], [[0]], r"shape \(1, 2\) .* shape \(1, 1\)"),
    ],
)
def test_bad_maps_are_refused_and_what_was_counted_stays(prediction: object, reference: object, message: str) -> None:
    metric = MeanIoU(NAMES)
    metric.add(prediction=[[1]], reference=[[1]])
    with pytest.raises(ValueError, match=message):
        metric.add(prediction=prediction, reference=reference)
    assert metric.compute()["per_class_iou"]["car"] == 1.0


def test_bad_calls_are_refused() -> None:
    with pytest.raises(ValueError, match="2 predictions, but 1 references"):
        MeanIoU(NAMES).add_batch(predictions=[[[0]], [[0]]], references=[[[0]]])
    with pytest.raises(ValueError, match="without gaps"):
        MeanIoU({0: "road", 2: "car"})
    with pytest.raises(ValueError, match="share a name"):
        MeanIoU({0: "road", 1: "road"})
    with pytest.raises(ValueError, match="no pixel to score in 0 images"):
        MeanIoU(NAMES).compute()
    with pytest.raises(ValueError, match="no pixel to score in 1 images"):
        MeanIoU(NAMES).compute(predictions=[[[0]]], references=[[[255]]])


def test_is_an_evaluate_metric() -> None:
    metric = MeanIoU(NAMES)
    assert isinstance(metric, evaluate.Metric)
    assert metric.name == "mean_iou"
    assert "intersection over union" in metric.description.lower()
    assert "everingham" in metric.citation
    assert set(metric.features) == {"predictions", "references"}
    combined = evaluate.combine([metric])
    combined.add_batch(predictions=[[[0, 1]]], references=[[[0, 1]]])
    assert combined.compute()["mean_iou"] == 1.0


class TwoProcesses:
    """Stands in for an `Accelerator` of two processes that have counted the same."""

    device = torch.device("cpu")

    def reduce(self, tensor: torch.Tensor, reduction: str) -> torch.Tensor:
        assert reduction == "sum"
        return 2 * tensor


def test_reduce_sums_matrix_and_images() -> None:
    metric = MeanIoU(NAMES)
    metric.add_batch(predictions=[[[0, 1]]], references=[[[0, 2]]])
    before = metric.confusion_matrix
    metric.reduce(TwoProcesses())
    assert torch.equal(metric.confusion_matrix, 2 * before)
    assert len(metric) == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_counts_without_waiting_and_reports_bad_ids_at_the_end() -> None:
    predictions, references = (torch.tensor(maps, device="cuda") for maps in random_maps(3))
    metric, expected = MeanIoU(NAMES), MeanIoU(NAMES)
    metric.add_batch(predictions=predictions, references=references)
    torch.cuda.set_sync_debug_mode("error")
    try:
        metric.add_batch(predictions=predictions, references=references)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    expected.add_batch(predictions=predictions.cpu(), references=references.cpu())
    assert torch.equal(metric.confusion_matrix, 2 * expected.confusion_matrix)
    metric.add_batch(predictions=predictions + 3, references=references)
    with pytest.raises(ValueError, match="prediction 6 "):
        metric.compute()


def test_package_import_leaves_evaluate_alone() -> None:
    code = "import sys, mfm_hf, mfm_hf.evaluation; assert 'evaluate' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_writes_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evaluate.config.HF_METRICS_CACHE", tmp_path / "metrics")
    MeanIoU(NAMES).compute(predictions=[[[0]]], references=[[[0]]])
    assert list(tmp_path.iterdir()) == []


def test_the_means_can_leave_classes_out() -> None:
    """The pixels of the others still count against what is predicted there."""
    reference, prediction = np.array([[0, 0, 1, 1]]), np.array([[0, 0, 0, 1]])
    metric = MeanIoU({0: "road", 1: "car", 2: "sky"}, mean_over=("road", "sky"))
    scores = metric.compute(predictions=[prediction], references=[reference])
    assert scores["mean_iou"] == pytest.approx(2 / 3)  # of the road alone: a car's pixel is in its union
    assert scores["mean_accuracy"] == 1
    assert scores["per_class_iou"] == pytest.approx({"road": 2 / 3, "car": 1 / 2, "sky": None})
    absent = MeanIoU({0: "road", 1: "car", 2: "sky"}, mean_over=("sky",))
    assert absent.compute(predictions=[prediction], references=[reference])["mean_iou"] is None
    with pytest.raises(ValueError, match="there is no class 'tram' to take the mean over"):
        MeanIoU({0: "road"}, mean_over=("tram",))
