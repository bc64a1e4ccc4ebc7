"""Whole training iterations of the reference, replayed through the code that training runs."""

import dataclasses

import pytest
import torch
from torch import Tensor, nn

from mfm_hf.data.classes import CITYSCAPES
from mfm_hf.data.domain import Domain
from mfm_hf.hub.reference.detection import detect_network
from mfm_hf.hub.reference.network import Network
from mfm_hf.hub.reference.settings import Settings
from mfm_hf.mfm.auto import TRAINING_CLASSES
from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.uda.augmentation import StrongAugmentation
from mfm_hf.uda.choices import StepChoices
from mfm_hf.uda.recipes import RECIPES
from mfm_hf.uda.trainer import UdaTrainer
from mfm_hf.uda.training_args import UdaTrainingArguments
from tests.golden_files import golden

# The recordings, the recipe that each is of, and what its weights do not tell of the network.
RECORDINGS = {
    "uda_dacs_dlv2": ("dacs", {}),
    "uda_daformer_mit": ("daformer", {"num_attention_heads": [1, 2, 3, 4]}),
}
OUR_LOSSES = {
    "source": "decode.loss_seg",
    "feature_distance": "src.loss_imnet_feat_dist",
    "mixed": "mix.decode.loss_seg",
}
MAX_STEPS = 10**12  # the recordings have a constant learning rate


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def student_of(tensors: dict[str, Tensor], settings: dict) -> tuple[DomainAdaptationModel, Network]:
    """Return the recorded student as a training class, and the names of its parts in the reference."""
    weights = part(tensors, "init.model.")
    network = detect_network(weights, Settings(settings))
    config = network.model.config
    config.id2label, config.label2id = CITYSCAPES.id2label, CITYSCAPES.label2id
    student = TRAINING_CLASSES[config.model_type](config)
    student.load_state_dict(network.to_ours(weights))
    for module in student.modules():  # stochastic layers were off
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
        elif "DropPath" in type(module).__name__:
            module.drop_prob = 0.0
    return student, network


def trainer_of(recipe: str, recorded: dict, student: DomainAdaptationModel, output_dir) -> UdaTrainer:
    method = dataclasses.replace(
        RECIPES[recipe],
        max_steps=MAX_STEPS,
        warmup_steps=0,
        teacher_alpha=recorded["alpha"],
        pseudo_label_threshold=recorded["pseudo_threshold"],
    )
    rows = [recorded["pseudo_weight_ignore_top"], recorded["pseudo_weight_ignore_bottom"]]
    args = UdaTrainingArguments(
        output_dir=str(output_dir), use_cpu=True, pseudo_label_ignore_rows=rows, selection_images=0
    )
    return UdaTrainer(student, args, source=None, target=object.__new__(Domain), recipe=method)


def load_pretrained(trainer: UdaTrainer, tensors: dict[str, Tensor], network: Network) -> None:
    """Give the feature distance its recorded encoder, which is another than the student's at the start."""
    encoder = part(tensors, "init.imnet_model.")
    if encoder:
        ours = network.to_ours(part(tensors, "init.model.") | encoder)
        trainer.adaptation.pretrained.model.load_state_dict(ours)


def choices_of(iteration: dict) -> StepChoices:
    classes = torch.tensor(iteration["batch_classes"])
    pasted = tuple(classes[torch.tensor(chosen)] for chosen in iteration["class_choice_indices"])
    return StepChoices(pasted_classes=pasted, mixed_augmentations=(StrongAugmentation(),) * len(pasted))


def gradient_norm(model: nn.Module) -> float:
    return torch.stack([p.grad.norm() for p in model.parameters() if p.grad is not None]).norm().item()


@pytest.mark.parametrize("name", RECORDINGS)
def test_training_iterations_are_those_of_the_reference(name, tmp_path):
    recipe, settings = RECORDINGS[name]
    manifest, tensors = golden(name)
    student, network = student_of(tensors, settings)
    trainer = trainer_of(recipe, manifest["uda"], student, tmp_path)
    load_pretrained(trainer, tensors, network)
    for index, iteration in enumerate(manifest["iterations"]):
        source = {"pixel_values": tensors[f"it{index}.img"], "labels": tensors[f"it{index}.gt"].squeeze(1).long()}
        target = {"pixel_values": tensors[f"it{index}.target_img"]}
        losses = trainer.training_step(source, target, choices_of(iteration))
        weights = {term.name: term.weight for term in trainer.recipe.objectives}
        for ours, loss in losses.items():
            expected = iteration["log_vars"][OUR_LOSSES[ours]]
            assert weights[ours] * loss.item() == pytest.approx(expected, rel=1e-4), ours
        assert gradient_norm(student) == pytest.approx(iteration["grad_total_norm"], rel=1e-3)

    steps = len(manifest["iterations"])
    # The reference's teacher was built with fresh running statistics, ours is a copy; it normalises with the batch.
    teacher = dict(trainer.adaptation.teacher.model.named_parameters())
    for prefix, state in (("final.model.", student.state_dict()), ("final.ema_model.", teacher)):
        recorded = network.to_ours(part(tensors, prefix))
        for key, value in state.items():
            # Gradients that are zero in exact arithmetic are rounding noise, which AdamW turns into whole steps.
            is_noise = "k_proj.bias" in key or (key.startswith("decode_head.embeddings.") and key.endswith(".bias"))
            atol = steps * 6e-4 if is_noise else 1e-4
            torch.testing.assert_close(
                value, recorded[key], rtol=0, atol=atol, msg=lambda text, key=key: f"{key}: {text}"
            )
