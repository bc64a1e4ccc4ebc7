import json
import re
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard, snapshot_download
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForSemanticSegmentation,
    SegformerForSemanticSegmentation,
)
from transformers.utils import IMAGE_PROCESSOR_NAME

from mfm_hf.hub.image_processor import save_image_processor
from mfm_hf.hub.publish import publish
from mfm_hf.hub.upload import PublishError
from tests.hub_server import LoopbackHub
from tests.image_processors import needs_image_processor
from tests.tiny_models import tiny_model

REPO = "lab/streets"
INFERENCE_FILES = {"config.json", "preprocessor_config.json", "README.md", "results.json", "model.safetensors"}


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """What a training leaves: the final checkpoint among files that are nobody else's business."""
    folder = tmp_path / "run"
    tiny_model("segformer").save_pretrained(folder)
    save_image_processor(folder)
    (folder / "results.json").write_text(json.dumps({"recipe": "dacs", "mfm": True, "mean_iou": None}))
    (folder / "training_args.json").write_text("{}")
    (folder / "log.jsonl").write_text("{}\n")
    checkpoint = folder / "checkpoint-10"
    checkpoint.mkdir()
    for name in ("config.json", "student.safetensors", "teacher.safetensors", "optimizer.safetensors"):
        (checkpoint / name).write_text("{}")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def uploaded(hub: LoopbackHub, repo_id: str = REPO) -> set[str]:
    return set(hub.repos[repo_id].files) - {".gitattributes"}


def test_inference_files_travel_and_load_again(loopback_hub: LoopbackHub, run_folder: Path) -> None:
    url = publish(run_folder, REPO, retry_waits=())
    assert url == f"{loopback_hub.url}/{REPO}"
    assert uploaded(loopback_hub) == INFERENCE_FILES
    assert not loopback_hub.repos[REPO].private
    assert ModelCard(loopback_hub.repos[REPO].files["README.md"].decode()).data.library_name == "transformers"

    pixels = torch.rand(1, 3, 32, 64)
    local = SegformerForSemanticSegmentation.from_pretrained(run_folder).eval()
    published, report = AutoModelForSemanticSegmentation.from_pretrained(REPO, output_loading_info=True)
    assert not any(report.values())
    assert torch.equal(published.eval()(pixels).logits, local(pixels).logits)
    downloaded = contents(Path(snapshot_download(REPO)))
    assert downloaded.keys() >= INFERENCE_FILES
    assert downloaded[IMAGE_PROCESSOR_NAME] == (run_folder / IMAGE_PROCESSOR_NAME).read_bytes()


@needs_image_processor
@pytest.mark.parametrize("name", ["segformer", "daformer"])
def test_code_on_the_card_loads_the_model(name: str, loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    model = tiny_model(name)
    model.save_pretrained(folder)
    save_image_processor(folder)
    publish(folder, REPO, retry_waits=())
    card = loopback_hub.repos[REPO].files["README.md"].decode()
    code = re.search("```python\n(.*?)```", card, re.DOTALL)
    assert code is not None
    names: dict[str, object] = {}
    exec(code[1], names)
    assert isinstance(names["model"], type(model).inference_class)
    assert names["processor"].to_dict() == AutoImageProcessor.from_pretrained(folder).to_dict()


def test_push_to_hub_of_a_training_class_strips_the_rebuilder(loopback_hub: LoopbackHub) -> None:
    model = tiny_model("segformer").eval()
    assert model.rebuilder is not None
    model.push_to_hub(REPO)
    loaded, report = SegformerForSemanticSegmentation.from_pretrained(REPO, output_loading_info=True)
    assert not any(report.values())
    assert type(loaded) is SegformerForSemanticSegmentation
    assert AutoConfig.from_pretrained(REPO).architectures == ["SegformerForSemanticSegmentation"]
    assert "rebuilder" not in json.dumps(loaded.config.to_dict())
    pixels = torch.rand(1, 3, 32, 64)
    with torch.inference_mode():
        assert torch.equal(loaded.eval()(pixels).logits, model.decode(model.encode(pixels)))


def test_second_push_sends_nothing_twice(loopback_hub: LoopbackHub, run_folder: Path) -> None:
    publish(run_folder, REPO, retry_waits=())
    head = loopback_hub.repos[REPO].head
    loopback_hub.requests.clear()
    publish(run_folder, REPO, retry_waits=())
    assert loopback_hub.repos[REPO].head == head
    assert not any(request.startswith("PUT") for request in loopback_hub.requests)


def test_shards_come_and_go_in_one_commit(loopback_hub: LoopbackHub, run_folder: Path, tmp_path: Path) -> None:
    sharded = tmp_path / "sharded"
    model = tiny_model("segformer")
    model.save_pretrained(sharded, max_shard_size="50KB")
    save_image_processor(sharded)
    shards = {path.name for path in sharded.glob("model-*.safetensors")}
    assert len(shards) > 1

    publish(run_folder, REPO, retry_waits=())
    publish(sharded, REPO, retry_waits=())
    # The results were those of other weights.
    index = "model.safetensors.index.json"
    assert uploaded(loopback_hub) == {"config.json", "preprocessor_config.json", "README.md", index, *shards}
    _, report = SegformerForSemanticSegmentation.from_pretrained(REPO, output_loading_info=True)
    assert not any(report.values())

    publish(run_folder, REPO, retry_waits=())
    assert uploaded(loopback_hub) == INFERENCE_FILES
    assert len(loopback_hub.repos[REPO].commits) == 1 + 3


def test_private(loopback_hub: LoopbackHub, run_folder: Path) -> None:
    publish(run_folder, REPO, private=True, retry_waits=())
    assert loopback_hub.repos[REPO].private
    publish(run_folder, "lab/public", retry_waits=())
    before = loopback_hub.repos["lab/public"].head
    with pytest.raises(PublishError, match="lab/public exists and is public"):
        publish(run_folder, "lab/public", private=True, retry_waits=())
    assert loopback_hub.repos["lab/public"].head == before


def test_name_alone_is_one_of_the_users_own(loopback_hub: LoopbackHub, run_folder: Path) -> None:
    assert publish(run_folder, "streets", retry_waits=()).endswith("/someone/streets")
    assert 'from_pretrained("someone/streets")' in (run_folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("requests", "status", "message"),
    [
        ("repos/create", 401, "log in with `hf auth login`"),
        ("repos/create", 403, "your token may not write there"),
        ("repos/create", 404, "check the name"),
        ("/commit/", 403, "your token may not write there"),
        ("/commit/", 409, "something else is changing the repository"),
        ("repos/create", 429, "publish again in a few minutes"),
        ("/commit/", 500, "the Hub has a problem of its own (status 500)"),
        ("validate-yaml", 503, "the answer of the Hub cannot be read"),
        ("PUT /lfs/", 503, "the Hub has a problem of its own (status 503)"),
        ("repos/create", None, "the connection to the Hub failed"),
        ("/commit/", None, "the connection to the Hub failed"),
        ("PUT /lfs/", None, "the connection to the Hub failed"),
    ],
)
def test_errors_of_the_hub_say_how_to_mend_them(
    requests: str, status: int | None, message: str, loopback_hub: LoopbackHub, run_folder: Path
) -> None:
    before = contents(run_folder)
    loopback_hub.fail(requests, status, times=100)
    with pytest.raises(PublishError, match=re.escape(message)) as info:
        publish(run_folder, REPO, retry_waits=(0, 0))
    assert "\n" not in str(info.value)
    after = contents(run_folder)
    after.pop("README.md", None)
    assert after == before
    # Nothing is half-published, and what was cut short can be repeated.
    assert all(len(repo.commits) == 1 for repo in loopback_hub.repos.values())
    loopback_hub.failures.clear()
    publish(run_folder, REPO, retry_waits=())
    assert uploaded(loopback_hub) == INFERENCE_FILES


@pytest.mark.parametrize(
    ("requests", "status"), [("repos/create", 429), ("/commit/", 502), ("/commit/", None), ("validate-yaml", 503)]
)
def test_errors_that_pass_are_sat_out(
    requests: str, status: int | None, loopback_hub: LoopbackHub, run_folder: Path
) -> None:
    loopback_hub.fail(requests, status, times=2)
    publish(run_folder, REPO, retry_waits=(0, 0))
    assert uploaded(loopback_hub) == INFERENCE_FILES


def test_lasting_errors_are_not_repeated(loopback_hub: LoopbackHub, run_folder: Path) -> None:
    loopback_hub.fail("/commit/", 403, times=1)
    with pytest.raises(PublishError):
        publish(run_folder, REPO, retry_waits=(0, 0))


@pytest.mark.parametrize("token", ["hf_wrong", None])
def test_who_is_not_logged_in_is_told(
    token: str | None, loopback_hub: LoopbackHub, run_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(PublishError, match="the Hub does not know you"):
        publish(run_folder, REPO, token=token, retry_waits=())
    assert loopback_hub.repos == {}


def test_offline_mode_is_named(loopback_hub: LoopbackHub, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(PublishError, match="HF_HUB_OFFLINE is set: unset it"):
        publish(run_folder, REPO, retry_waits=(0, 0))
    assert loopback_hub.requests == []


def test_folders_that_are_no_checkpoint_are_refused_before_anything_is_sent(
    loopback_hub: LoopbackHub, run_folder: Path, tmp_path: Path
) -> None:
    weights = run_folder / "model.safetensors"
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no config\.json"):
        publish(tmp_path / "nowhere", REPO)
    with pytest.raises(FileNotFoundError, match=r"checkpoint-10 holds no model\.safetensors"):
        publish(run_folder / "checkpoint-10", REPO)
    with pytest.raises(ValueError, match="'no good/' cannot be the name"):
        publish(run_folder, "no good/")
    weights.write_bytes(weights.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        publish(run_folder, REPO)
    weights.unlink()
    index = {"weight_map": {"a": "model-00001-of-00002.safetensors"}}
    (run_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(FileNotFoundError, match=r"model-00001-of-00002\.safetensors is missing"):
        publish(run_folder, REPO)
    assert loopback_hub.requests == []
    assert not (run_folder / "README.md").exists()


def test_weights_with_a_rebuilder_are_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    model = tiny_model("segformer")
    model.config.save_pretrained(tmp_path)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match="holds a Rebuilder, which only training needs"):
        publish(tmp_path, REPO)
