"""Published networks in a fresh process that has never heard of this package, and in one that has."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import snapshot_download
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSemanticSegmentation, pipeline

from mfm_hf.hub.image_processor import save_image_processor
from mfm_hf.hub.publish import publish
from tests.hub_server import TOKEN, LoopbackHub
from tests.image_processors import needs_image_processor
from tests.tiny_models import MODELS, tiny_model

SECONDS = 300
SIZE = (192, 96)  # width and height
# Loads each checkpoint by its name and from its folder, and saves what it has seen.
READER = """
import sys
if {blocked}:
    sys.modules["mfm_hf"] = None  # importing it fails
else:
    import mfm_hf
import torch
from safetensors.torch import load_file, save_file
from PIL import Image
from transformers import AutoConfig, AutoModelForSemanticSegmentation, pipeline

if {blocked}:
    try:
        AutoConfig.from_pretrained("lab/hrda")
    except ValueError as error:
        assert "trust_remote_code=True" in str(error)
        assert not any(name.startswith("transformers_modules.") for name in sys.modules)
    else:
        raise AssertionError("code was run that nobody trusts")
pixels = load_file("pixels.safetensors")["pixels"]
seen = {{}}
for name in {names}:
    for origin in ("lab/" + name, name):
        network = AutoModelForSemanticSegmentation.from_pretrained(origin, **{options})
        print("\\nfrom", type(network).__module__.partition(".")[0])
        with torch.inference_mode():
            seen[origin] = network.eval()(pixels).logits.contiguous()
save_file(seen, "seen.safetensors")

try:
    segment = pipeline("image-segmentation", model="lab/hrda", **{options})
except ImportError:  # transformers < 5.22 makes no image processor without torchvision
    sys.exit()
assert {{mask["mask"].size for mask in segment(Image.new("RGB", (200, 100)))}} == {{(200, 100)}}
"""


@pytest.fixture
def published(loopback_hub: LoopbackHub, tmp_path: Path) -> LoopbackHub:
    """A Hub with one network of each kind as `lab/KIND`, and folders with what was downloaded from it."""
    for name in MODELS:
        tiny_model(name).save_pretrained(tmp_path / "runs" / name)
        save_image_processor(tmp_path / "runs" / name)
        publish(tmp_path / "runs" / name, f"lab/{name}", retry_waits=())
        snapshot_download(f"lab/{name}", local_dir=tmp_path / name)
    return loopback_hub


@pytest.mark.parametrize(
    ("blocked", "options"), [(True, {"trust_remote_code": True}), (False, {})], ids=["without mfm_hf", "with mfm_hf"]
)
def test_fresh_process_sees_the_same_logits(
    blocked: bool, options: dict[str, bool], published: LoopbackHub, tmp_path: Path
) -> None:
    pixels = torch.rand(1, 3, 64, 128)
    save_file({"pixels": pixels}, tmp_path / "pixels.safetensors")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("HF_")},
        **{"HF_ENDPOINT": published.url, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home")},
        **{"HF_HUB_DISABLE_XET": "1", "PYTHONPATH": str(Path(__file__).parents[1])},
    }
    code = READER.format(blocked=blocked, names=MODELS, options=options)
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0, done.stderr
    packages = {line for line in done.stdout.splitlines() if line.startswith("from ")}
    assert packages == {"from transformers", "from transformers_modules" if blocked else "from mfm_hf"}
    seen = load_file(tmp_path / "seen.safetensors")
    assert len(seen) == 2 * len(MODELS)
    for name in MODELS:
        local = AutoModelForSemanticSegmentation.from_pretrained(tmp_path / "runs" / name).eval()
        with torch.inference_mode():
            expected = local(pixels).logits
        assert torch.equal(seen[f"lab/{name}"], expected)
        assert torch.equal(seen[name], expected)


@needs_image_processor
@pytest.mark.parametrize("box", [None, (160, 80), (256, 128)], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_pipeline_returns_masks_at_the_size_of_the_image(
    name: str, box: tuple[int, int] | None, tmp_path: Path
) -> None:
    model = tiny_model(name)
    if name.startswith("hrda"):
        model.config.window_size, model.config.window_stride = [64, 128], [32, 64]  # several windows
    model.save_pretrained(tmp_path / name)
    save_image_processor(tmp_path / name, box)
    segment = pipeline("image-segmentation", model=str(tmp_path / name))
    image = Image.effect_noise(SIZE, 80).convert("RGB")
    masks = segment(image)
    assert masks
    assert {mask["mask"].size for mask in masks} == {SIZE}
    assert {mask["label"] for mask in masks} <= set(model.config.label2id)
    covered = sum(torch.tensor(list(mask["mask"].tobytes())) // 255 for mask in masks)
    assert covered.eq(1).all()  # every pixel is of one class
