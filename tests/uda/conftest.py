import numpy as np
import pytest
import torch
from PIL import Image

from mfm_hf.data.domains import load_domain
from mfm_hf.uda.trainer import UdaTrainer
from mfm_hf.uda.training_args import UdaTrainingArguments
from tests.tiny_models import tiny_model

SETTINGS = {
    "crop_size": [32, 48],
    "max_steps": 4,
    "warmup_steps": 1,
    "learning_rate": 1e-3,
    "mfm_dim": 32,
    "mfm_grid": [4, 6],
    "logging_steps": 2,
    "eval_steps": 0,
    "dataloader_num_workers": 0,
    "use_cpu": True,
    "backbone": "stand-in",  # not trained from scratch, as far as the arguments know
}


@pytest.fixture(scope="session")
def domains(tmp_path_factory):
    """Two folders of noisy rectangles, with the 19 classes of Cityscapes; the second is brighter."""
    rng = np.random.default_rng(0)
    root = tmp_path_factory.mktemp("domains")
    for name, brightness in (("source", 0), ("target", 40)):
        for split in ("train", "validation"):
            for kind in ("images", "labels"):
                (root / name / split / kind).mkdir(parents=True)
            for index in range(5):
                label = np.kron(rng.integers(0, 19, (4, 6)), np.ones((16, 16))).astype(np.uint8)
                label[:2] = 255
                image = (label[..., None] * np.array([5, 9, 12]) + brightness + rng.normal(0, 4, (64, 96, 3))).clip(
                    0, 255
                )
                Image.fromarray(image.astype(np.uint8)).save(root / name / split / "images" / f"{index}.png")
                Image.fromarray(label).save(root / name / split / "labels" / f"{index}.png")
    return root


@pytest.fixture
def make_trainer(domains, tmp_path):
    """A function that makes a trainer of a tiny network on those domains."""

    def make(model: str = "segformer", rebuilder: bool = True, **overrides) -> UdaTrainer:
        paths = {"source": str(domains / "source"), "target": str(domains / "target")}
        args = UdaTrainingArguments(**{**SETTINGS, **paths, "output_dir": str(tmp_path / "run"), **overrides})
        torch.manual_seed(args.seed)
        network = tiny_model(model) if rebuilder and args.mfm and args.mfm_weight else tiny_model(model, rebuilder=None)
        return UdaTrainer(
            network,
            args,
            load_domain(args.source, "source"),
            load_domain(args.target, "target"),
            load_domain(args.target, "eval"),
        )

    return make
