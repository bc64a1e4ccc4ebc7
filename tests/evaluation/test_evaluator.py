from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import SegformerConfig, SegformerForSemanticSegmentation

from mfm_hf.data.classes import class_set_from_names
from mfm_hf.data.domain import BadExampleError, Domain, Example
from mfm_hf.data.resizing import resize_image, resized
from mfm_hf.data.transforms import normalize
from mfm_hf.evaluation.evaluator import evaluate_model
from mfm_hf.evaluation.mean_iou import MeanIoU
from mfm_hf.models.sliding_window import SlidingWindow
from tests.image_processors import needs_image_processor

CLASSES = class_set_from_names(("road", "car", "sky"))
SIZES = [(32, 64), (32, 64), (32, 64), (48, 40), (32, 64)]


def decode(row: dict, bad_index: int | None = None) -> Example:
    if row["index"] == bad_index:
        raise BadExampleError(f"label of {row['index']} cannot be read")
    rng = np.random.default_rng(row["index"])
    height, width = SIZES[row["index"]]
    label = rng.integers(0, 3, (height, width)).astype(np.uint8)
    label[:4] = 255
    return Example(str(row["index"]), rng.integers(0, 256, (height, width, 3)).astype(np.uint8), label)


def indices() -> Iterator[dict[str, int]]:
    yield from ({"index": index} for index in range(len(SIZES)))


def no_rows() -> Iterator[dict[str, int]]:
    raise AssertionError("rows are read too early")
    yield


@pytest.fixture
def domain() -> Domain:
    rows = datasets.IterableDataset.from_generator(indices)
    return Domain("toys", "validation", CLASSES, 255, labelled=True, rows=rows, num_rows=len(SIZES), decode=decode)


@pytest.fixture
def model() -> SegformerForSemanticSegmentation:
    torch.manual_seed(0)
    config = SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 16, 16], num_attention_heads=[1, 1, 1, 1], decoder_hidden_size=16
    )
    config.id2label = CLASSES.id2label
    config.label2id = CLASSES.label2id
    return SegformerForSemanticSegmentation(config)


def scores_image_by_image(model: SegformerForSemanticSegmentation) -> dict:
    """The same measurement written out with the image processor of `transformers`."""
    from transformers import SegformerImageProcessorPil

    processor, metric = SegformerImageProcessorPil(do_resize=False), MeanIoU(CLASSES.id2label)
    model.eval()
    for index, size in enumerate(SIZES):
        example = decode({"index": index})
        with torch.no_grad():
            outputs = model(**processor(example.image, return_tensors="pt"))
        [prediction] = processor.post_process_semantic_segmentation(outputs, target_sizes=[size])
        metric.add(prediction=prediction, reference=example.label)
    return metric.compute()


@needs_image_processor
@pytest.mark.parametrize(("batch_size", "num_workers"), [(1, 0), (2, 2), (8, 3)])
def test_equals_the_image_processors_way(
    model: SegformerForSemanticSegmentation, domain: Domain, batch_size: int, num_workers: int
) -> None:
    results = evaluate_model(model, domain, batch_size=batch_size, num_workers=num_workers, progress=False)
    assert results.pop("num_images") == len(SIZES)
    assert results.pop("seconds") > 0
    assert results.pop("eval_classes") is None
    expected = scores_image_by_image(model)
    assert results["mean_iou"] == pytest.approx(expected["mean_iou"], abs=1e-3)
    assert results["per_class_iou"] == pytest.approx(expected["per_class_iou"], abs=1e-3)
    assert results.keys() == expected.keys()


def test_examples_come_in_order_with_their_predictions(model: SegformerForSemanticSegmentation, domain: Domain) -> None:
    batches: list[tuple[list[str], tuple[int, ...]]] = []

    def on_batch(examples: Sequence[Example], predictions: Tensor) -> None:
        batches.append(([example.name for example in examples], tuple(predictions.shape)))

    evaluate_model(model, domain, batch_size=2, progress=False, on_batch=on_batch)
    assert batches == [
        (["0", "1"], (2, 32, 64)),
        (["2"], (1, 32, 64)),
        (["3"], (1, 48, 40)),
        (["4"], (1, 32, 64)),
    ]


def predictions_of(model: SegformerForSemanticSegmentation, domain: Domain, **options: object) -> list[Tensor]:
    """The class maps of all images, in their order."""
    maps: list[Tensor] = []
    evaluate_model(model, domain, progress=False, on_batch=lambda _, batch: maps.extend(batch), **options)
    return maps


def decode_large(row: dict) -> Example:
    rng = np.random.default_rng(row["index"])
    label = rng.integers(0, 3, (81, 150)).astype(np.uint8)
    return Example(str(row["index"]), rng.integers(0, 256, (81, 150, 3)).astype(np.uint8), label)


@torch.no_grad()
def test_resized_images_are_measured_at_the_labels_size(
    model: SegformerForSemanticSegmentation, domain: Domain
) -> None:
    """Logits -> size of the image -> size of the label: two steps, which one step would not equal."""
    small = resized(replace(domain, decode=decode_large), (64, 36), labels=False)
    maps = predictions_of(model.eval(), small, batch_size=4)
    for index, prediction in enumerate(maps):
        image = small.decode({"index": index}).image
        assert image.shape[:2] == (35, 64)
        logits = model(pixel_values=normalize(torch.from_numpy(image).permute(2, 0, 1)[None])).logits
        resize = partial(F.interpolate, mode="bilinear", align_corners=False)
        expected = resize(resize(logits, size=(35, 64)), size=(81, 150)).argmax(dim=1)[0]
        in_one_step = resize(logits, size=(81, 150)).argmax(dim=1)[0]
        assert (prediction == expected).float().mean() > 0.999  # ties aside
        assert (prediction == in_one_step).float().mean() < 0.999


def test_images_of_one_size_may_have_labels_of_several(model: SegformerForSemanticSegmentation, domain: Domain) -> None:
    def squashed(row: dict) -> Example:
        example = decode(row)
        return replace(example, image=resize_image(example.image, (32, 32)))

    maps = predictions_of(model, replace(domain, decode=squashed), batch_size=8)
    assert [tuple(one.shape) for one in maps] == SIZES


@torch.no_grad()
def test_images_can_be_seen_in_windows(model: SegformerForSemanticSegmentation, domain: Domain) -> None:
    window = SlidingWindow((32, 32), (16, 16))
    [first, *_] = predictions_of(model, domain, limit=1, window=window)
    pixels = normalize(torch.from_numpy(decode({"index": 0}).image).permute(2, 0, 1)[None])
    logits = window(pixels, lambda windows: model.eval()(pixel_values=windows).logits)
    assert first.equal(logits.argmax(dim=1)[0])
    assert not first.equal(predictions_of(model, domain, limit=1)[0])


def test_the_mean_can_leave_classes_out(model: SegformerForSemanticSegmentation, domain: Domain) -> None:
    every = evaluate_model(model, domain, progress=False)
    some = evaluate_model(model, domain, progress=False, eval_classes=("road", "sky"))
    ious = every["per_class_iou"]
    assert some["per_class_iou"] == ious  # no pixel is left out
    assert some["mean_iou"] == pytest.approx((ious["road"] + ious["sky"]) / 2)
    assert some["overall_accuracy"] == every["overall_accuracy"]
    assert some["eval_classes"] == ["road", "sky"]


def test_processes_share_the_images(model: SegformerForSemanticSegmentation, domain: Domain) -> None:
    """Two processes, one after the other: what the first has counted is what the second one's `reduce` adds."""
    whole = evaluate_model(model, domain, limit=4, progress=False)
    reduced: list[list[Tensor]] = [[], []]

    def reduce(rank: int, tensor: Tensor, reduction: str) -> Tensor:
        assert reduction == "sum"
        reduced[rank].append(tensor)
        return tensor if rank == 0 else tensor + reduced[0][len(reduced[1]) - 1]

    results = [
        evaluate_model(
            model,
            domain,
            limit=4,
            progress=False,
            accelerator=SimpleNamespace(
                process_index=rank, num_processes=2, device=torch.device("cpu"), reduce=partial(reduce, rank)
            ),
        )
        for rank in range(2)
    ]
    assert [result["num_images"] for result in results] == [2, 4]
    assert results[1]["per_class_iou"] == whole["per_class_iou"]


def test_modes_are_restored(model: SegformerForSemanticSegmentation, domain: Domain) -> None:
    model.train()
    frozen = next(module for module in model.modules() if isinstance(module, nn.BatchNorm2d))
    frozen.eval()
    before = [module.training for module in model.modules()]
    statistics = frozen.running_mean.clone()
    evaluate_model(model, domain, limit=1, progress=False, on_batch=lambda *_: check_eval(model))
    assert [module.training for module in model.modules()] == before
    assert torch.equal(frozen.running_mean, statistics)


def check_eval(model: nn.Module) -> None:
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_example_is_named_not_skipped(
    model: SegformerForSemanticSegmentation, domain: Domain, num_workers: int
) -> None:
    bad = replace(domain, decode=partial(decode, bad_index=3))
    with pytest.raises(BadExampleError, match="label of 3 cannot be read"):
        evaluate_model(model, bad, num_workers=num_workers, progress=False)


def test_bad_requests_are_refused_before_any_image_is_read(
    model: SegformerForSemanticSegmentation, domain: Domain
) -> None:
    unreadable = replace(domain, rows=datasets.IterableDataset.from_generator(no_rows))
    with pytest.raises(ValueError, match="toys has no labels"):
        evaluate_model(model, replace(unreadable, labelled=False))
    with pytest.raises(ValueError, match="the model has 3 labels, but toys has 2 classes"):
        evaluate_model(model, replace(unreadable, classes=class_set_from_names(("road", "car"))))
    with pytest.raises(ValueError, match="in another order"):
        evaluate_model(model, replace(unreadable, classes=class_set_from_names(("car", "road", "sky"))))
    with pytest.raises(ValueError, match="batch_size must be at least 1, not 0"):
        evaluate_model(model, unreadable, batch_size=0)
    with pytest.raises(ValueError, match="there is no class 'tram' to take the mean over"):
        evaluate_model(model, unreadable, eval_classes=("road", "tram"))
    with pytest.raises(ValueError, match="limit must be at least 1, not 0"):
        evaluate_model(model, unreadable, limit=0)
