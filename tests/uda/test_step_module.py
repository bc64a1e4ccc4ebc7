import pytest
import torch
from torch.nn import functional as F

from mfm_hf.uda.objectives import MaskedFeatureModeling, Segmentation
from mfm_hf.uda.step_module import StepModule, default_encode_mode
from mfm_hf.uda.views import View
from tests.tiny_models import MODELS, tiny_model

HEIGHT, WIDTH = 64, 96
TERMS = (Segmentation("source"), Segmentation("mixed", weight=3.0), MaskedFeatureModeling("target"))


@pytest.fixture
def student():
    model = tiny_model().eval()  # without dropout, so that a second pass sees the same network
    with torch.no_grad():  # an untrained classifier says nearly nothing, and would hide what comes before it
        model.decode_head.classifier.weight.mul_(500)
    return model


@pytest.fixture
def views(student) -> dict[str, View]:
    made = {}
    for name in ("source", "mixed", "target"):
        labels = torch.randint(0, 19, (2, HEIGHT, WIDTH))
        labels[:, :5] = 255
        weights = None if name == "source" else torch.rand(2, HEIGHT, WIDTH)
        made[name] = View(torch.randn(2, 3, HEIGHT, WIDTH), labels, weights)
    mask = student.draw_mask(2, torch.Generator().manual_seed(0))
    made["target"] = View(made["target"].pixel_values, made["target"].labels, made["target"].weights, None, mask)
    return made


def cross_entropy(logits: torch.Tensor, view: View) -> float:
    """The mean over all pixels, in float64 and written out."""
    logits = F.interpolate(logits.double(), size=(HEIGHT, WIDTH), mode="bilinear")
    chosen = logits.log_softmax(1).gather(1, view.labels.clamp(max=18).unsqueeze(1)).squeeze(1)
    weights = 1.0 if view.weights is None else view.weights
    return -(chosen * weights * (view.labels != 255)).sum().item() / view.labels.numel()


def test_losses_are_those_of_the_networks_line(student, views):
    losses = StepModule(student, TERMS)(views, ["source", "mixed", "mfm"])
    assert list(losses) == ["source", "mixed", "mfm"]
    with torch.no_grad():
        for name in ("source", "mixed"):  # without their weights in the total
            logits = student.decode(student.encode(views[name].pixel_values))
            assert losses[name].item() == pytest.approx(cross_entropy(logits, views[name]), rel=1e-4)
        features = student.encode(views["target"].pixel_values)
        rebuilt = student.decode(student.rebuild(features, views["target"].rebuilder_mask))
        assert losses["mfm"].item() == pytest.approx(cross_entropy(rebuilt, views["target"]), rel=1e-4)
        assert losses["mfm"].item() != pytest.approx(cross_entropy(student.decode(features), views["target"]), rel=1e-4)


def test_one_view_gives_the_losses_of_its_objectives(student, views):
    module = StepModule(student, TERMS)
    together = module(views, ["source", "mixed", "mfm"])
    for view, name in (("source", "source"), ("mixed", "mixed"), ("target", "mfm")):
        (loss,) = (losses := module({view: views[view]}, ["source", "mixed", "mfm"])).values()
        assert list(losses) == [name]
        assert loss.item() == pytest.approx(together[name].item(), rel=1e-5)


def test_an_objective_that_is_not_named_is_left_out(student, views):
    losses = StepModule(student, TERMS)({"source": views["source"], "mixed": views["mixed"]}, ["mixed"])
    assert list(losses) == ["mixed"]


def test_parameters_are_the_students(student):
    names = [name for name, _ in StepModule(student, TERMS).named_parameters()]
    assert names == [f"student.{name}" for name, _ in student.named_parameters()]


@pytest.mark.parametrize("name", MODELS)
def test_encoders_with_batch_norm_take_a_view_at_a_time(name):
    assert default_encode_mode(tiny_model(name)) == ("one_by_one" if "deeplabv2" in name else "views_together")
