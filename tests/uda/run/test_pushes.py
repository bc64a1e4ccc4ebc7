"""Publishing while a run goes on, over real HTTP, against a Hub that may fail."""

import json
import time
from types import SimpleNamespace

import pytest
from huggingface_hub import ModelCard
from transformers import AutoModelForSemanticSegmentation

from mfm_hf.hub.upload import PublishError
from mfm_hf.uda.run.run_folder import go_back
from tests.uda.run.test_faults import during_step

REPO = "lab/streets"
SECONDS = 30.0
INFERENCE_FILES = {
    *("README.md", "config.json", "model.safetensors", "preprocessor_config.json", "results.json"),
    ".gitattributes",  # the Hub's own
}


@pytest.fixture
def hub(loopback_hub, monkeypatch):
    """A loopback Hub, and no waiting between attempts."""
    monkeypatch.setattr("mfm_hf.hub.upload.time", SimpleNamespace(sleep=lambda seconds: None))
    return loopback_hub


@pytest.fixture
def start(make_trainer):
    """A function that makes the trainer of a run of 2 steps that publishes on its way."""

    def make(**overrides):
        publishing = {"push_to_hub": True, "hub_model_id": REPO, "hub_strategy": "every_save", "save_steps": 1}
        return make_trainer(**{**publishing, "max_steps": 2, "final_evaluation": False, **overrides})

    return make


def wait_until(happened) -> None:
    end = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


def test_network_is_published_on_the_way_and_at_the_end(hub, start, tmp_path, capsys) -> None:
    trainer = start(max_steps=3, eval_steps=1, final_evaluation=True, save_steps=0, selection_images=0)
    during_step(trainer, 2, lambda: wait_until(lambda: len(hub.repos[REPO].commits) == 2))
    results = trainer.train()
    trainer.push_to_hub()
    assert f"the network is on the Hub: {hub.url}/{REPO}" in capsys.readouterr().out
    repo = hub.repos[REPO]
    on_the_way, final = repo.commits[1][1], repo.files
    early, late = (json.loads(files["results.json"]) for files in (on_the_way, final))
    assert (early["steps"], late["steps"]) == (1, 3)
    assert early["mean_iou"] == results["evaluations"][0]["mean_iou"]
    assert "- Steps: 1 of 3\n" in on_the_way["README.md"].decode()
    (score, _) = ModelCard(final["README.md"].decode()).data.eval_results
    assert score.metric_value == round(results["mean_iou"], 4)
    assert final["model.safetensors"] == (tmp_path / "run/model.safetensors").read_bytes()
    assert on_the_way["model.safetensors"] != final["model.safetensors"]
    for _, files in repo.commits:
        assert files.keys() <= INFERENCE_FILES
        assert not any(str(tmp_path).encode() in content for content in files.values())
    network = AutoModelForSemanticSegmentation.from_pretrained(REPO)
    assert not any("rebuilder" in name for name, _ in network.named_parameters())
    assert not list((tmp_path / "run").glob(".push-*"))
    assert results["failed_pushes"] == []


@pytest.mark.parametrize(
    ("requests", "status", "reason"),
    [
        ("/commit/", 401, "log in with `hf auth login`"),
        ("/commit/", 403, "your token may not write there"),
        ("/preupload/", 404, "check the name and your login"),
        ("/commit/", 409, "something else is changing the repository"),
        ("/preupload/", 429, "too many requests"),
        ("/commit/", 500, "the Hub has a problem of its own (status 500)"),
        ("PUT /lfs/", None, "the connection to the Hub failed"),
    ],
)
def test_training_goes_on_without_the_hub(requests, status, reason, hub, start, tmp_path, capsys) -> None:
    hub.fail(requests, status, times=10_000)
    trainer = start()
    during_step(trainer, 2, lambda: wait_until(lambda: trainer.pushes.failures))
    results = trainer.train()
    assert results["steps"] == 2
    first = results["failed_pushes"][0]
    assert first["step"] == 1
    assert reason in first["reason"]
    assert "warning: the network of step 1 is not on the Hub" in capsys.readouterr().out
    assert not list((tmp_path / "run").glob(".push-*"))
    with pytest.raises(PublishError):
        trainer.push_to_hub()
    assert len(hub.repos[REPO].commits) == 1

    hub.failures.clear()
    trainer.push_to_hub()  # it may be repeated
    assert hub.repos[REPO].files["model.safetensors"] == (tmp_path / "run/model.safetensors").read_bytes()
    assert "failed_pushes" not in json.loads(hub.repos[REPO].files["results.json"])


@pytest.mark.parametrize("status", [401, 403, 404])
def test_hub_that_refuses_is_known_before_the_training(status, hub, start, tmp_path) -> None:
    hub.fail("repos/create", status)
    with pytest.raises(PublishError):
        start().train()
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("status", [429, 503, None])
def test_hub_that_is_away_at_the_start_is_warned_of(status, hub, start, capsys) -> None:
    hub.fail("repos/create", status, times=4)  # all attempts
    trainer = start(hub_strategy="end", save_steps=0)
    assert trainer.train()["steps"] == 2
    assert "the training goes on" in capsys.readouterr().out
    trainer.push_to_hub()
    assert "model.safetensors" in hub.repos[REPO].files


def test_only_the_end_is_published_unless_asked(hub, start) -> None:
    trainer = start(hub_strategy="end", hub_private_repo=True)
    trainer.train()
    assert len(hub.repos[REPO].commits) == 1
    assert hub.repos[REPO].private
    trainer.push_to_hub()
    assert len(hub.repos[REPO].commits) == 2


def test_names_that_cannot_be_are_refused_at_once(start) -> None:
    with pytest.raises(ValueError, match="'no good/' cannot be the name of a repository"):
        start(hub_model_id="no good/")
    start(hub_model_id="no good/", push_to_hub=False)


def test_baseline_is_compared_before_the_training_and_on_the_card(hub, make_trainer, start, tmp_path) -> None:
    baseline = make_trainer(recipe="source_only", max_steps=1, output_dir=str(tmp_path / "baseline"))
    baseline.train()
    file = tmp_path / "baseline/results.json"
    trainer = start(baseline_results=str(file), hub_strategy="end", final_evaluation=True)
    trainer.train()
    trainer.push_to_hub()
    card = hub.repos[REPO].files["README.md"].decode()
    assert "| Class | IoU in % | Source only |" in card
    assert "(1 steps, seed 0)" in card

    file.write_text(json.dumps({**json.loads(file.read_text()), "source": "another"}))
    with pytest.raises(ValueError, match="its source is another"):
        start(baseline_results=str(file), output_dir=str(tmp_path / "never")).train()
    assert not (tmp_path / "never").exists()


def test_what_a_killed_run_left_is_cleared(tmp_path) -> None:
    (tmp_path / ".push-3-abc").mkdir()
    go_back(tmp_path, {})
    assert list(tmp_path.iterdir()) == []
