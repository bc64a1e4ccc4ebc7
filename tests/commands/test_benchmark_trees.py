"""From the raw tree of a benchmark to a score, by the commands that people use."""

from __future__ import annotations

import json

import pytest

from mfm_hf.commands import evaluate, prepare
from mfm_hf.data.benchmarks.layouts import LAYOUTS
from mfm_hf.data.domains import load_domain
from mfm_hf.data.loading import TrainingStream
from mfm_hf.data.transforms import TrainingTransform
from mfm_hf.hub.image_processor import save_image_processor
from tests.miniature_benchmarks import write_benchmark
from tests.tiny_models import tiny_model

# GTA and SYNTHIA have training images alone, Dark Zurich's training images have no public labels.
SPLIT = {"gta": "train", "synthia": "train"}
ROLE = {"dark_zurich": "target"}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint")
    tiny_model().save_pretrained(folder)
    save_image_processor(folder)
    return folder


@pytest.mark.parametrize("prefix", LAYOUTS)
def test_a_benchmark_prepares_streams_and_evaluates(prefix, checkpoint, tmp_path):
    write_benchmark(prefix, tmp_path / "raw")
    address, shards, role = f"{prefix}:{tmp_path / 'raw'}", tmp_path / "shards", ROLE.get(prefix, "source")
    options = ["--size", "64", "64", "--num_workers", "0"]
    prepare.main(["--domain", f"{address}#train", "--role", role, "--output", str(shards), *options])
    raw, prepared = (load_domain(name, role) for name in (f"{address}#train", str(shards)))
    assert prepared.num_rows == raw.num_rows
    assert prepared.paper is not None
    batch = next(TrainingStream(prepared, TrainingTransform((32, 32)), batch_size=2, seed=0))
    assert batch["pixel_values"].shape == (2, 3, 32, 32)
    assert ("labels" in batch) == (role == "source")

    domain = f"{address}#{SPLIT.get(prefix, 'validation')}"
    results = tmp_path / "results.json"
    evaluate.main(
        ["--model", str(checkpoint), "--domain", domain, "--image_size", "64", "64", "--output", str(results)]
    )
    scores = json.loads(results.read_text())
    assert scores["num_images"] == load_domain(domain, "eval").num_rows
    assert set(scores["per_class_iou"]) == set(prepared.classes.names)
