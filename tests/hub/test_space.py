from __future__ import annotations

import json
from pathlib import Path

import pytest
from huggingface_hub import SpaceCard, snapshot_download

import mfm_hf
from mfm_hf.hub.image_processor import save_image_processor
from mfm_hf.hub.publish import publish
from mfm_hf.hub.space import push_space
from mfm_hf.hub.upload import PublishError
from tests.hub_server import LoopbackHub
from tests.tiny_models import tiny_model

SPACE = "lab/try-it"
PACKAGE = Path(mfm_hf.__file__).parent


@pytest.fixture
def checkpoints(tmp_path: Path) -> tuple[Path, Path]:
    """An adapted checkpoint and its baseline, with a file that is nobody else's business."""
    folders = (tmp_path / "adapted", tmp_path / "source_only")
    for folder in folders:
        tiny_model().save_pretrained(folder)
        save_image_processor(folder)
        (folder / "results.json").write_text(json.dumps({"recipe": "dacs", "mean_iou": None}))
        (folder / "log.jsonl").write_text("{}\n")
    return folders


def test_checkpoint_folders_travel_with_the_page(
    loopback_hub: LoopbackHub, checkpoints: tuple[Path, Path], tmp_path: Path
) -> None:
    model, compare = checkpoints
    url = push_space(SPACE, str(model), str(compare), "streets:real:64x128", retry_waits=())
    assert url == f"{loopback_hub.url}/spaces/{SPACE}"
    folder = Path(snapshot_download(SPACE, repo_type="space"))

    places = {"model": "checkpoints/model/adapted", "compare": "checkpoints/compare/source_only"}
    for place in places.values():
        names = {path.name for path in (folder / place).iterdir()}
        assert names == {"config.json", "model.safetensors", "preprocessor_config.json", "results.json", "README.md"}
    weights = "model.safetensors"
    assert (folder / places["model"] / weights).read_bytes() == (model / weights).read_bytes()
    assert f"serve_space('{places['model']}', '{places['compare']}'," in (folder / "app.py").read_text()
    assert not (model / "README.md").exists()

    for path in PACKAGE.rglob("*.py"):
        assert (folder / path.relative_to(PACKAGE.parent)).read_bytes() == path.read_bytes()
    assert (folder / "mfm_hf/commands/demo_page.css").is_file()
    assert not list(folder.rglob("*.pyc"))

    card = SpaceCard.load(folder / "README.md").data
    assert (card.title, card.sdk, card.app_file, card.models) == ("try-it", "gradio", "app.py", None)
    assert card.sdk_version.startswith("6.")
    requirements = (folder / "requirements.txt").read_text().splitlines()
    assert any(line.startswith("torch") for line in requirements)
    assert not any(line.startswith(("gradio", "pytest")) for line in requirements)


def test_checkpoints_on_the_hub_are_named(loopback_hub: LoopbackHub, checkpoints: tuple[Path, Path]) -> None:
    publish(checkpoints[0], "lab/adapted", retry_waits=())
    push_space(SPACE, "lab/adapted", retry_waits=())
    files = loopback_hub.repos[f"spaces/{SPACE}"].files
    assert SpaceCard(files["README.md"].decode()).data.models == ["lab/adapted"]
    assert "serve_space('lab/adapted', None, 'streets:real#validation')" in files["app.py"].decode()
    assert not any(path.startswith("checkpoints/") for path in files)


def test_a_second_push_sends_nothing_twice_and_leaves_nothing_old(
    loopback_hub: LoopbackHub, checkpoints: tuple[Path, Path]
) -> None:
    model, compare = map(str, checkpoints)
    push_space(SPACE, model, compare, private=True, retry_waits=())
    space = loopback_hub.repos[f"spaces/{SPACE}"]
    assert space.private
    head = space.head
    loopback_hub.requests.clear()
    push_space(SPACE, model, compare, private=True, retry_waits=())
    assert space.head == head
    assert not any(request.startswith("PUT") for request in loopback_hub.requests)

    push_space(SPACE, model, retry_waits=())
    assert not any(path.startswith("checkpoints/compare/") for path in space.files)
    assert len(space.commits) == 1 + 2


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"model": "lab/nothing"}, ValueError, "there is no folder lab/nothing, and no such model on the Hub"),
        ({"compare": "no/such/folder"}, ValueError, "there is no folder no/such/folder, and no such model on the Hub"),
        ({"examples": "my_photos"}, ValueError, "a Space cannot read my_photos: give a built-in domain"),
        ({"repo_id": "no good/"}, ValueError, "'no good/' cannot be the name"),
        ({"model": "EMPTY"}, FileNotFoundError, "holds no config.json"),
    ],
)
def test_what_cannot_be_a_space_is_refused_before_anything_is_made(
    arguments: dict[str, str],
    error: type[Exception],
    message: str,
    loopback_hub: LoopbackHub,
    checkpoints: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    (tmp_path / "empty").mkdir()
    if arguments.get("model") == "EMPTY":
        arguments = {"model": str(tmp_path / "empty")}
    with pytest.raises(error, match=message):
        push_space(**{"repo_id": SPACE, "model": str(checkpoints[0]), "retry_waits": (), **arguments})
    assert loopback_hub.repos == {}


def test_an_error_of_the_hub_says_how_to_mend_it(loopback_hub: LoopbackHub, checkpoints: tuple[Path, Path]) -> None:
    loopback_hub.fail("repos/create", 403)
    with pytest.raises(PublishError, match="adapted as lab/try-it: your token may not write there"):
        push_space(SPACE, str(checkpoints[0]), retry_waits=())
