from types import SimpleNamespace

import pytest
import torch
from accelerate.utils import DistributedType

from mfm_hf.uda.resolution import resolve_recipe
from mfm_hf.uda.run.launch_checks import check_launch
from mfm_hf.uda.training_args import UdaTrainingArguments

GLOBAL = {"batch_statistics": "global"}
PAIR = {"recipe": "mic", "masked_images": "pair"}


def check(device="cuda", distributed_type=DistributedType.MULTI_GPU, accumulation_of_launcher=1, **options):
    args = UdaTrainingArguments(**options)
    accelerator = SimpleNamespace(
        device=torch.device(device),
        distributed_type=distributed_type,
        mixed_precision=args.mixed_precision,
        gradient_accumulation_steps=accumulation_of_launcher,
    )
    check_launch(args, resolve_recipe(args), accelerator)


@pytest.mark.parametrize("name", ["FSDP", "DEEPSPEED", "MEGATRON_LM"])
def test_divided_weights_are_refused(name):
    with pytest.raises(ValueError, match=rf"^{name} .* mean teacher .* launch with plain data parallelism"):
        check(distributed_type=DistributedType[name])


def test_accumulation_by_the_launcher_is_refused():
    with pytest.raises(ValueError, match="not to accelerate launch"):
        check(accumulation_of_launcher=2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixed_precision": "fp16"}, "--mixed_precision bf16"),
        ({"memory_preset": "11gb"}, "--mixed_precision bf16"),
        ({"sync_batch_norm": True}, "--sync_batch_norm needs GPUs"),
    ],
)
def test_what_only_gpus_can_do(options, message):
    check("cuda", **options)
    with pytest.raises(ValueError, match=message):
        check("cpu", **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({**PAIR, **GLOBAL}, "--batch_statistics process"),
        ({**PAIR, "gradient_accumulation_steps": 2}, "without --gradient_accumulation_steps"),
        ({**GLOBAL, "loss_average": "valid"}, "--loss_average valid"),
        ({"compile": True, "full_determinism": True}, "--compile chooses GPU kernels by their time"),
        ({"compile": True, "sync_batch_norm": True}, "--compile cannot compile what --sync_batch_norm sends"),
        ({"compile": True, "log_gradient_norms": True}, "overwrite what --log_gradient_norms needs"),
    ],
)
def test_what_does_not_go_together(options, message):
    with pytest.raises(ValueError, match=message):
        check(**options)


@pytest.mark.parametrize("options", [PAIR, {**GLOBAL, "gradient_accumulation_steps": 2}, {"loss_average": "valid"}])
def test_what_does(options):
    check(**options)
