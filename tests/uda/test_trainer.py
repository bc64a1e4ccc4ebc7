import json
import shutil

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSemanticSegmentation

from mfm_hf.uda.class_mix import class_mask
from mfm_hf.uda.drawing import draw_choices
from mfm_hf.uda.run.run_state import StreamState
from mfm_hf.uda.run.streams import open_stream
from mfm_hf.uda.trainer import UdaTrainer
from tests.tiny_models import MODELS


def batches(trainer: UdaTrainer):
    generator = torch.Generator().manual_seed(9)
    images = torch.randint(0, 256, (2, 2, 3, *trainer.recipe.crop_size), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, 19, (2, *trainer.recipe.crop_size), generator=generator)
    return {"pixel_values": images[0], "labels": labels}, {"pixel_values": images[1]}


def weights(trainer: UdaTrainer):
    return {name: value for name, value in trainer.student.state_dict().items() if not name.startswith("rebuilder.")}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


@pytest.mark.parametrize("recipe", ["source_only", "dacs"])
def test_weight_0_reproduces_the_baseline_number_for_number(recipe, make_trainer, tmp_path):
    baseline = make_trainer(recipe=recipe, output_dir=str(tmp_path / "a"))
    with_mfm = make_trainer(recipe=recipe, mfm=True, mfm_weight=0.0, output_dir=str(tmp_path / "b"))
    results = [trainer.train() for trainer in (baseline, with_mfm)]
    assert results[0]["per_class_iou"] == results[1]["per_class_iou"]
    assert_same(weights(baseline), weights(with_mfm))
    assert not results[1]["mfm"]


def test_a_rebuilder_that_is_not_used_changes_nothing(make_trainer, tmp_path):
    """The network's start does not depend on whether a Rebuilder is built beside it."""
    plain, spare = make_trainer(mfm=True, rebuilder=False), make_trainer(mfm=True)
    assert_same(weights(plain), weights(spare))


def test_mfm_leaves_the_other_choices_alone(make_trainer):
    choices = []
    for trainer in (make_trainer(), make_trainer(mfm=True)):
        labels = batches(trainer)[0]["labels"]
        choices.append(draw_choices(trainer.recipe, trainer.student, labels, torch.Generator().manual_seed(1)))
    plain, with_mfm = choices
    assert all(torch.equal(a, b) for a, b in zip(plain.pasted_classes, with_mfm.pasted_classes, strict=True))
    assert plain.mixed_augmentations == with_mfm.mixed_augmentations
    assert list(with_mfm.rebuilder_masks) == ["target"]


@pytest.mark.parametrize("model", ["segformer", "daformer", "hrda"])  # those without BatchNorm in the encoder
def test_views_together_and_one_by_one_agree(model, make_trainer):
    outcomes = []
    for encode in ("views_together", "one_by_one"):
        trainer = make_trainer(model, mfm=True, encode=encode, crop_size=[64, 64])
        for module in trainer.student.modules():  # what is random would be drawn in another order
            if "Dropout" in type(module).__name__:
                module.p = 0.0
            elif "DropPath" in type(module).__name__:
                module.drop_prob = 0.0
        losses = trainer.training_step(*batches(trainer))
        gradients = {name: p.grad for name, p in trainer.student.named_parameters()}
        outcomes.append((losses, gradients))
    (losses, gradients), (other_losses, other_gradients) = outcomes
    assert list(losses) == ["source", "mixed", "mfm"]
    for name, loss in losses.items():
        torch.testing.assert_close(loss, other_losses[name], rtol=1e-5, atol=1e-6)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, other_gradients[name], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("model", MODELS)
def test_every_network_trains(model, make_trainer):
    trainer = make_trainer(model, mfm=True, crop_size=[64, 64], pseudo_label_threshold=0.05)
    assert trainer.adaptation.encode_mode == ("one_by_one" if "deeplabv2" in model else "views_together")
    student = trainer.student
    parts = [[*part.parameters()] for part in (student.encoder, *student.decoders, student.rebuilder)]
    before = [[parameter.detach().clone() for parameter in part] for part in parts]
    for _ in range(2):
        losses = trainer.training_step(*batches(trainer))
    assert list(losses) == ["source", "mixed", "mfm"]
    assert all(loss.isfinite() and loss > 0 for loss in losses.values())
    for part, old in zip(parts, before, strict=True):
        assert not any(torch.equal(a, b) for a, b in zip(part, old, strict=True) if a.ndim > 1)


def test_a_step_can_be_replayed(make_trainer):
    results = []
    for _ in range(2):
        trainer = make_trainer(mfm=True)
        source, target = batches(trainer)
        choices = draw_choices(trainer.recipe, trainer.student, source["labels"], torch.Generator().manual_seed(4))
        torch.rand(len(results) + 3)  # the global generator is elsewhere each time
        results.append((trainer.training_step(source, target, choices), weights(trainer)))
    assert results[0][0] == results[1][0]
    assert_same(results[0][1], results[1][1])


def test_gradients_are_those_of_the_weighted_sum(make_trainer):
    gradients = {}
    for weight in (1.0, 3.0):
        trainer = make_trainer(mfm=True, mfm_weight=weight)
        trainer.training_step(*batches(trainer))
        gradients[weight] = trainer.student.rebuilder.embedding.weight.grad
    torch.testing.assert_close(gradients[3.0], 3 * gradients[1.0], rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("recipe", ["source_only", "dacs"])
def test_a_run(recipe, make_trainer, tmp_path):
    view = {"mfm_view": "source"} if recipe == "source_only" else {}
    trainer = make_trainer(recipe=recipe, mfm=True, eval_steps=2, **view)
    results = trainer.train()
    output_dir = tmp_path / "run"
    assert json.loads((output_dir / "results.json").read_text()) == results
    assert results["steps"] == 4
    assert 0 <= results["mean_iou"] <= 1
    assert next(iter(results["per_class_iou"])) == "road"
    assert results["parameters_in_training"] - results["parameters_exported"] == sum(
        parameter.numel() for parameter in trainer.student.rebuilder.parameters()
    )
    assert results["best"]["step"] in (2, 4)
    lines = [json.loads(line) for line in (output_dir / "log.jsonl").read_text().splitlines()]
    losses = {"loss/source"} | ({"loss/mixed", "loss/mfm"} if recipe == "dacs" else {"loss/mfm_source"})
    assert {key for line in lines for key in line if key.startswith("loss/")} == losses
    exported = AutoModelForSemanticSegmentation.from_pretrained(output_dir)
    assert exported.config.id2label[0] == "road"
    assert sorted(path.name for path in output_dir.iterdir()) == [
        "config.json",
        "log.jsonl",
        "model.safetensors",
        "preprocessor_config.json",
        "results.json",
        "training_args.json",
    ]


@pytest.mark.parametrize("target_size", [None, [128, 64]])
def test_the_image_processor_has_the_size_of_the_target(target_size, make_trainer, tmp_path):
    (tmp_path / "run").mkdir()
    make_trainer(target_size=target_size).save_model()
    settings = json.loads((tmp_path / "run/preprocessor_config.json").read_text())
    assert settings["do_resize"] == (target_size is not None)
    assert settings.get("size") == (target_size and {"longest_edge": 128, "shortest_edge": 64})


@pytest.mark.parametrize("num_workers", [0, 1])
def test_resumed_equals_uninterrupted(num_workers, make_trainer, tmp_path):
    straight = make_trainer("daformer", mfm=True, save_steps=2)
    results = straight.train()
    shutil.copytree(tmp_path / "run", tmp_path / "resumed")
    shutil.rmtree(tmp_path / "resumed/checkpoint-4")
    resumed = make_trainer(
        "daformer",
        mfm=True,
        save_steps=2,
        output_dir=str(tmp_path / "resumed"),
        resume_from_checkpoint="latest",
        dataloader_num_workers=num_workers,
    )
    assert resumed.train()["per_class_iou"] == results["per_class_iou"]
    for name in ("student", "teacher", "optimizer"):
        file = f"checkpoint-4/{name}.safetensors"
        assert_same(load_file(tmp_path / "run" / file), load_file(tmp_path / "resumed" / file))


def test_old_checkpoints_are_pruned(make_trainer, tmp_path):
    make_trainer(save_steps=1, save_total_limit=2).train()
    assert sorted(path.name for path in (tmp_path / "run").glob("checkpoint-*")) == ["checkpoint-3", "checkpoint-4"]


def test_another_run_is_not_overwritten(make_trainer, tmp_path):
    make_trainer(max_steps=1).train()
    kept = (tmp_path / "run/model.safetensors").read_bytes()
    (tmp_path / "run/notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="--overwrite_output_dir"):
        make_trainer(seed=1, max_steps=1).train()
    assert (tmp_path / "run/model.safetensors").read_bytes() == kept
    make_trainer(seed=1, max_steps=1, overwrite_output_dir=True).train()
    assert (tmp_path / "run/model.safetensors").read_bytes() != kept
    assert (tmp_path / "run/notes.txt").read_text() == "mine"


def test_a_checkpoint_of_another_network_is_refused(make_trainer, tmp_path):
    make_trainer(save_steps=4).train()
    folder = str(tmp_path / "run/checkpoint-4")
    with pytest.raises(ValueError, match="another network"):
        make_trainer("daformer", resume_from_checkpoint=folder, output_dir=str(tmp_path / "b")).train()
    with pytest.raises(ValueError, match="--recipe was dacs, is source_only"):
        make_trainer(recipe="source_only", resume_from_checkpoint=folder, output_dir=str(tmp_path / "c")).train()
    (tmp_path / "run/checkpoint-4/student.safetensors").write_bytes(b"short")
    with pytest.raises(ValueError, match="damaged"):
        make_trainer(resume_from_checkpoint=folder, output_dir=str(tmp_path / "d")).train()


def test_a_recipe_that_adapts_needs_a_target(make_trainer):
    trainer = make_trainer()
    with pytest.raises(ValueError, match="target domain"):
        UdaTrainer(trainer.student, trainer.args, trainer.source)


def parameters_with_gradient(trainer, part):
    return [parameter for parameter in part.parameters() if parameter.grad is not None and parameter.grad.any()]


@pytest.mark.parametrize("model", ["segformer", "hrda"])
@pytest.mark.parametrize(("gradient", "encoder", "decoder"), [("both", 1, 1), ("encoder", 1, 0), ("decoder", 0, 1)])
def test_where_the_gradient_of_mfm_goes(model, gradient, encoder, decoder, make_trainer):
    trainer = make_trainer(model, mfm=True, mfm_gradient=gradient, crop_size=[64, 64], mfm_view="source")
    adaptation = trainer.adaptation
    views = adaptation.make_views(*batches(trainer), adaptation_choices(trainer))
    losses = adaptation.module({"source": views["source"]}, ["mfm_source"])
    losses["mfm_source"].backward()
    student = trainer.student
    assert bool(parameters_with_gradient(trainer, student.encoder)) == bool(encoder)
    assert bool(parameters_with_gradient(trainer, student.decoders[0])) == bool(decoder)
    assert parameters_with_gradient(trainer, student.rebuilder)
    assert all(parameter.requires_grad for parameter in student.parameters())


def adaptation_choices(trainer):
    labels = batches(trainer)[0]["labels"]
    return draw_choices(trainer.recipe, trainer.student, labels, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("flags", "losses"),
    [
        ({"mfm_view": "both"}, ["source", "mixed", "mfm_source", "mfm"]),
        ({"mfm_augmented": True}, ["source", "mixed", "mfm"]),
        ({"mfm_start_step": 1}, ["source", "mixed"]),
        ({"recipe": "mic", "feature_distance_weight": 0.0}, ["source", "mixed", "masked", "mfm"]),
        ({"recipe": "mic", "masked_images": "pair"}, ["source", "feature_distance", "mixed", "masked_pair", "mfm"]),
        (
            {"recipe": "mic", "masked_images": "source", "masked_augmented": False},
            ["source", "feature_distance", "mixed", "masked_source", "mfm"],
        ),
        ({"recipe": "daformer"}, ["source", "feature_distance", "mixed", "mfm"]),
    ],
)
@pytest.mark.parametrize("encode", ["views_together", "one_by_one"])
def test_which_losses_there_are(flags, losses, encode, make_trainer):
    trainer = make_trainer(mfm=True, encode=encode, crop_size=[64, 64], **flags)
    assert sorted(trainer.training_step(*batches(trainer))) == sorted(losses)


def test_what_mfm_does_to_batch_norm(make_trainer):
    statistics = {}
    for mode in ("update", "batch_no_update", "running"):
        trainer = make_trainer(mfm=True, mfm_batch_norm=mode)
        trainer.training_step(*batches(trainer))
        statistics[mode] = trainer.student.decode_head.batch_norm.num_batches_tracked.item()
    assert statistics == {"update": 3, "batch_no_update": 2, "running": 2}


def test_valid_pixels_alone_can_be_averaged(make_trainer):
    losses = {}
    for average in ("all", "valid"):
        trainer = make_trainer(recipe="source_only", loss_average=average)
        source, _ = batches(trainer)
        source["labels"][:, :16] = 255  # half of the crop
        losses[average] = trainer.training_step(source, None)["source"]
    torch.testing.assert_close(losses["valid"], 2 * losses["all"])


def test_margins_and_rows_reach_the_weights(make_trainer):
    trainer = make_trainer(pseudo_label_ignore_rows=[4, 2], pseudo_label_threshold=0.0)
    source, target = batches(trainer)
    target["valid"] = torch.ones(2, 32, 48, dtype=torch.bool)
    target["valid"][:, :, :5] = False
    weights = trainer.adaptation.make_views(source, target, adaptation_choices(trainer))["mixed"].weights
    pasted = class_mask(source["labels"], adaptation_choices(trainer).pasted_classes)
    inside = target["valid"].clone()
    inside[:, :4], inside[:, -2:] = False, False
    assert torch.equal(weights.bool(), pasted | inside)


def test_streams_carry_the_margins(make_trainer):
    trainer = make_trainer(pseudo_label_margins=[10, 0, 0, 0])
    stream = open_stream(trainer.target, "target", trainer.args, trainer.recipe, trainer.accelerator, StreamState())
    assert next(stream)["valid"].dtype == torch.bool
    stream.close()


def test_the_log_explains_the_run(make_trainer, tmp_path):
    make_trainer(mfm=True, log_gradient_norms=True, picture_steps=2).train()
    line = json.loads((tmp_path / "run/log.jsonl").read_text().splitlines()[0])
    assert {"loss/source", "loss/mixed", "loss/mfm", "teacher_alpha", "pseudo_label_confidence"} <= line.keys()
    assert {"gradient_norm/source", "gradient_norm/mixed", "gradient_norm/mfm"} <= line.keys()
    assert {"learning_rate/encoder", "learning_rate/decoder", "learning_rate/rebuilder"} <= line.keys()
    assert {f"mask_ratio/target_stage_{stage}" for stage in range(1, 5)} <= line.keys()
    assert sorted(path.name for path in (tmp_path / "run/pictures").iterdir()) == ["step-2.png", "step-4.png"]


def test_measuring_gradients_does_not_change_them(make_trainer):
    outcomes = []
    for measure in (False, True):
        trainer = make_trainer(mfm=True)
        trainer.adaptation(*batches(trainer), measure=measure)
        outcomes.append(weights(trainer))
    assert_same(*outcomes)
