import copy
import dataclasses

import pytest
import torch

from mfm_hf.uda.optimization import learning_rate_factor, make_optimizer, parameter_groups, set_learning_rates
from mfm_hf.uda.recipes import DACS
from tests.golden_files import golden
from tests.tiny_models import tiny_model

MANIFEST, _ = golden("algo_lr_schedule")


def test_the_schedule_is_the_references():
    recorded = MANIFEST["daformer_adamw_poly10warm"]
    for step, rates in zip(MANIFEST["iters"], recorded["lrs"], strict=True):
        factor = learning_rate_factor(step, MANIFEST["max_iters"], recorded["warmup_iters"])
        for base, rate in zip(recorded["base_lrs"], rates, strict=True):
            assert base * factor == pytest.approx(rate, rel=1e-9)


def test_no_warmup():
    assert learning_rate_factor(0, 10, 0) == 1.0


def test_groups_are_the_references():
    model = tiny_model("daformer", rebuilder=None)
    ours = {}
    for group in parameter_groups(model, DACS, rebuilder_learning_rate=1e-4):
        key = (group["lr"], group["weight_decay"])
        ours.setdefault(key, set()).update(id(parameter) for parameter in group["params"])
    assert set(ours) == {tuple(pair) for pair in MANIFEST["adamw_param_groups"]["daformer"].values()}
    head, spared = ours[(6e-5 * 10, 0.01)], ours[(6e-5, 0.0)]
    for name, parameter in model.named_parameters():
        assert (id(parameter) in head) == name.startswith("decode_head.")
        assert (id(parameter) in spared) == ("norm" in name and not name.startswith("decode_head."))


def test_the_rebuilder_has_a_rate_of_its_own():
    model = tiny_model()
    optimizer = make_optimizer(model, DACS, rebuilder_learning_rate=1e-4)
    rebuilder = {id(parameter) for parameter in model.rebuilder.parameters()}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert (group["lr"] == 1e-4) == (id(parameter) in rebuilder)
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(model.parameters()))


def test_rates_follow_the_factor():
    optimizer = make_optimizer(tiny_model(), dataclasses.replace(DACS, learning_rate=1.0), 0.5)
    for _ in range(2):  # from the base rates every time
        set_learning_rates(optimizer, 0.1)
    rates = {group["name"]: group["lr"] for group in optimizer.param_groups}
    assert rates["encoder"] == pytest.approx(0.1)
    assert rates["decoder"] == pytest.approx(1.0)
    assert rates["rebuilder"] == pytest.approx(0.05)
    assert isinstance(optimizer, torch.optim.AdamW)


def test_the_fused_optimizer_learns_what_the_plain_one_learns():
    torch.manual_seed(0)
    student = tiny_model()
    other = copy.deepcopy(student)
    fused = make_optimizer(student, DACS, 1e-4)
    plain = torch.optim.AdamW(parameter_groups(other, DACS, 1e-4), betas=(0.9, 0.999), eps=1e-8, foreach=False)
    for step in range(20):
        for optimizer in (fused, plain):
            set_learning_rates(optimizer, learning_rate_factor(step, 20, 5))
        for ours, theirs in zip(student.parameters(), other.parameters(), strict=True):
            ours.grad = torch.randn_like(ours)
            theirs.grad = ours.grad.clone()
        fused.step()
        plain.step()
    for ours, theirs in zip(student.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)
        assert fused.state[ours].keys() == plain.state[theirs].keys()  # which checkpoints hold
