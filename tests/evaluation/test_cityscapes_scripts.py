"""The official evaluator of Cityscapes measures the same as ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official
from cityscapesscripts.helpers.labels import labels as OFFICIAL_LABELS
from PIL import Image

from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.evaluation.mean_iou import MeanIoU

# Of every label of the data set (the ids of `gtFine_labelIds.png`), our train id; 255 where there is none.
TRAIN_IDS = {label.id: label.trainId if 0 <= label.trainId < 19 else 255 for label in OFFICIAL_LABELS if label.id >= 0}
IDS = {train_id: label_id for label_id, train_id in TRAIN_IDS.items() if train_id != 255}


def draw_label_ids(rng: np.random.Generator) -> np.ndarray:
    """A label of blocks, of all ids that label files hold, those without a class among them; a few never occur."""
    ids = [label_id for label_id in TRAIN_IDS if TRAIN_IDS[label_id] not in (14, 16)]  # no truck, no train
    return np.kron(rng.choice(ids, (8, 16)), np.ones((5, 6), dtype=np.int64)).astype(np.uint8)


def draw_prediction(label_ids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Train ids that are right at about half of the pixels; some are trucks, none a train."""
    truth = np.vectorize(TRAIN_IDS.get)(label_ids)
    guess = rng.choice([train_id for train_id in range(19) if train_id != 16], truth.shape)
    return np.where((rng.random(truth.shape) < 0.5) & (truth != 255), truth, guess).astype(np.uint8)


@pytest.fixture
def files(tmp_path: Path) -> list[tuple[Path, Path]]:
    """Three pairs of files: a label as the data set has it, a prediction as the official evaluator wants it."""
    rng, pairs = np.random.default_rng(0), []
    for frame in range(3):
        stem = f"aachen_{frame:06}_000019"
        label = draw_label_ids(rng)
        prediction = np.vectorize(IDS.get)(draw_prediction(label, rng)).astype(np.uint8)
        pair = tmp_path / f"{stem}_gtFine_labelIds.png", tmp_path / f"{stem}_pred.png"
        for path, ids in zip(pair, (label, prediction), strict=True):
            Image.fromarray(ids).save(path)
        pairs.append(pair)
    return pairs


def official_scores(files: list[tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch) -> dict:
    for name, value in {"evalInstLevelScore": False, "JSONOutput": False, "quiet": True}.items():
        monkeypatch.setattr(official.args, name, value)
    labels, predictions = ([str(pair[side]) for pair in files] for side in range(2))
    return official.evaluateImgLists(predictions, labels, official.args)


def test_scores_are_those_of_the_official_evaluator(
    files: list[tuple[Path, Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = official_scores(files, monkeypatch)
    metric = MeanIoU(CITYSCAPES.id2label)
    for label, prediction in files:
        train_ids = [np.vectorize(TRAIN_IDS.get)(np.asarray(Image.open(path))) for path in (prediction, label)]
        metric.add(prediction=train_ids[0], reference=train_ids[1])
    scores = metric.compute()
    ious = {name: np.nan if iou is None else iou for name, iou in scores["per_class_iou"].items()}
    assert ious == pytest.approx({name: expected["classScores"][name] for name in ious}, abs=1e-6, nan_ok=True)
    assert scores["mean_iou"] == pytest.approx(expected["averageScoreClasses"], abs=1e-6)
    assert scores["per_class_iou"]["truck"] == 0  # predicted, but nowhere labelled
    assert scores["per_class_iou"]["train"] is None
