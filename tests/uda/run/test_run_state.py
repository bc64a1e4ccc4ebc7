import json
import logging
from dataclasses import replace

import pytest

from mfm_hf.data.domains import load_domain
from mfm_hf.uda.run.run_state import (
    FREE_ARGUMENTS,
    DomainState,
    RunMismatchError,
    RunState,
    StateError,
    StreamState,
    arguments_as_json,
    check_same_run,
    describe_domain,
)
from mfm_hf.uda.training_args import UdaTrainingArguments

STATE = RunState(
    step=12,
    arguments={"recipe": "dacs"},
    domains={"source": DomainState("game", "train", 5), "target": DomainState("real", "train", 7)},
    streams=[
        {"source": StreamState(24), "target": StreamState(26, ("cannot read a.png",))},
        {"source": StreamState(24), "target": StreamState(24)},
    ],
    journals={"log.jsonl": 300},
    parts={"evaluations": {"history": [{"step": 4, "mean_iou": 0.1}]}},
    scaler={"scale": 65536.0, "_growth_tracker": 3},
)


def test_a_state_comes_back_from_json() -> None:
    assert RunState.from_json(json.loads(json.dumps(STATE.to_json()))) == STATE
    without = replace(STATE, scaler=None)
    assert RunState.from_json(json.loads(json.dumps(without.to_json()))) == without


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("step",), -1),
        (("step",), 1.5),
        (("step",), True),
        (("step",), "12"),
        (("step",), 10**30),
        (("arguments",), []),
        (("domains",), {"source": None}),
        (("domains", "source", "num_rows"), -3),
        (("streams",), []),
        (("streams",), {}),
        (("streams", 0), None),
        (("streams", 1), {}),
        (("streams", 0, "source"), 24),
        (("streams", 0, "source", "position"), -1),
        (("streams", 0, "source", "bad_samples"), [3]),
        (("journals", "log.jsonl"), None),
        (("parts",), None),
        (("parts", "evaluations"), 3),
        (("scaler",), "none"),
    ],
)
def test_a_state_that_is_none_is_refused(path, value) -> None:
    content = json.loads(json.dumps(STATE.to_json()))
    holder = content
    for key in path[:-1]:
        holder = holder[key]
    holder[path[-1]] = value
    with pytest.raises(StateError):
        RunState.from_json(content)


@pytest.mark.parametrize("name", STATE.to_json())
def test_a_state_lacks_nothing(name) -> None:
    content = json.loads(json.dumps(STATE.to_json()))
    del content[name]
    with pytest.raises(StateError, match=f"{name} is missing"):
        RunState.from_json(content)


@pytest.mark.parametrize("content", [None, [], 3, "state"])
def test_a_state_is_an_object(content) -> None:
    with pytest.raises(StateError, match="no object"):
        RunState.from_json(content)


# Whether a run may go on


@pytest.fixture
def domains(domains):
    return {role: load_domain(str(domains / role), role) for role in ("source", "target")}


def state_of(args, domains, num_processes=1):
    return RunState(
        step=1,
        arguments=arguments_as_json(args),
        domains={role: describe_domain(domain) for role, domain in domains.items()},
        streams=[{role: StreamState() for role in domains}] * num_processes,
        journals={},
    )


def test_what_does_not_change_the_outcome_may_change(domains) -> None:
    state = state_of(UdaTrainingArguments(crop_size=[32, 48], max_steps=4), domains)
    args = UdaTrainingArguments(crop_size=(32, 48), max_steps=8, save_steps=2, output_dir="elsewhere", logging_steps=1)
    check_same_run(state, args, domains, 1)
    assert vars(args).keys() > FREE_ARGUMENTS  # none is misspelt


def test_what_changes_the_outcome_is_named(domains) -> None:
    state = state_of(UdaTrainingArguments(), domains)
    args = UdaTrainingArguments(seed=1, mfm=True)
    with pytest.raises(
        RunMismatchError, match=r"\(--mfm was False, is True; --seed was 0, is 1\): give those, or start"
    ):
        check_same_run(state, args, domains, 1)


def test_an_option_that_is_younger_than_the_checkpoint_had_its_default(domains) -> None:
    state = state_of(UdaTrainingArguments(), domains)
    del state.arguments["mfm_ratio"]
    check_same_run(state, UdaTrainingArguments(), domains, 1)
    with pytest.raises(RunMismatchError, match=r"--mfm_ratio was 0\.4, is 0\.5"):
        check_same_run(state, UdaTrainingArguments(mfm_ratio=0.5), domains, 1)


def test_another_number_of_processes_is_refused(domains) -> None:
    args = UdaTrainingArguments()
    with pytest.raises(RunMismatchError, match="it is of 2 processes, and this run has 1: launch as many"):
        check_same_run(state_of(args, domains, num_processes=2), args, domains, 1)


def test_data_may_move_but_not_change(domains, caplog) -> None:
    args = UdaTrainingArguments()
    state = state_of(args, domains)
    moved = {**domains, "source": replace(domains["source"], name="/elsewhere")}
    with caplog.at_level(logging.WARNING):
        check_same_run(state, args, moved, 1)
    assert caplog.records[0].getMessage().endswith("and is /elsewhere: taken for the same images")
    fewer = {**domains, "target": replace(domains["target"], num_rows=4)}
    with pytest.raises(
        RunMismatchError, match=r"its target .* had 5 images \(train\), and .* has 4 \(train\): give the"
    ):
        check_same_run(state, args, fewer, 1)
    with pytest.raises(RunMismatchError, match="a run on source, target, not source"):
        check_same_run(state, args, {"source": domains["source"]}, 1)
