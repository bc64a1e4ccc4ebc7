"""What a checkpoint holds besides tensors, and whether a run may go on from it.

Samples and random choices are functions of seed, step and position, and the learning rate is one of the step: so there
is no state of a random generator or a schedule to keep.
"""

from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mfm_hf.data.domain import Domain
from mfm_hf.uda.training_args import UdaTrainingArguments

logger = logging.getLogger(__name__)

# What a resumed run may change: where files lie, what is written and when, and how fast. With another number of steps
# the learning rates are others from there on.
FREE_ARGUMENTS = frozenset({
    "max_steps", "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "save_steps", "save_total_limit",
    "eval", "eval_size", "source_eval", "selection_images", "eval_steps", "final_evaluation",
    "per_device_eval_batch_size", "logging_steps", "log_gradient_norms", "picture_steps", "dataloader_num_workers",
    "use_cpu", "report_to", "push_to_hub", "hub_model_id", "hub_strategy", "hub_private_repo", "baseline_results",
    "print_recipe", "max_bad_samples", "gradient_checkpointing", "memory_preset",
    "max_skipped_steps", "dry_run",
})  # fmt: skip
# Data may lie elsewhere on another machine: that it is the same is seen from the domains.
_DATA_ARGUMENTS = frozenset({"source", "target"})


class StateError(ValueError):
    """A state that is not one. The message says what is wrong with it."""


class RunMismatchError(ValueError):
    """A state from which a run cannot go on. The message says why."""


@dataclass(frozen=True)
class StreamState:
    """Where a process is in a stream: the position of its next sample, and the bad samples that it has met."""

    position: int = 0
    bad_samples: tuple[str, ...] = ()


@dataclass(frozen=True)
class DomainState:
    """What tells a domain from another, wherever its files lie."""

    name: str
    split: str
    num_rows: int


@dataclass(frozen=True)
class RunState:
    """All of a run's state that is no tensor.

    Attributes:
        step: Training steps done.
        arguments: `UdaTrainingArguments` as JSON.
        domains: By role, `source` and perhaps `target`.
        streams: By process, the state of its streams by role.
        journals: Size in bytes of each file of the run that is appended to, by name.
        parts: By name, the `state_dict()` of whatever else remembers something, as JSON.
        scaler: State of the scaler of gradients under `--mixed_precision fp16` on a GPU.
    """

    step: int
    arguments: dict[str, Any]
    domains: dict[str, DomainState]
    streams: list[dict[str, StreamState]]
    journals: dict[str, int]
    parts: dict[str, dict[str, Any]] = field(default_factory=dict)
    scaler: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the state as JSON takes it."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Any) -> RunState:
        """Read what `to_json` returned, and trust nothing in it.

        Raises:
            StateError: If it is not what it should be.
        """
        get = _Reader(content)
        streams = [{role: _stream_state(value) for role, value in _dict(item).items()} for item in get("streams", list)]
        if not streams or any(item.keys() != streams[0].keys() for item in streams):
            raise StateError("streams are not those of every process")
        return cls(
            step=_count(get("step", int)),
            arguments=get("arguments", dict),
            domains={role: _domain_state(value) for role, value in get("domains", dict).items()},
            streams=streams,
            journals={name: _count(value) for name, value in get("journals", dict).items()},
            parts={name: _dict(value) for name, value in get("parts", dict).items()},
            scaler=None if get("scaler", object) is None else get("scaler", dict),
        )


class _Reader:
    """Reads the entries of a JSON object, each of the type that it should have."""

    def __init__(self, content: Any) -> None:
        self.content = _dict(content)

    def __call__(self, name: str, kind: type) -> Any:
        if name not in self.content:
            raise StateError(f"{name} is missing")
        value = self.content[name]
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise StateError(f"{name} is no {kind.__name__}")
        return value


def _dict(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise StateError("an entry is no object")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**63:
        raise StateError("a number is not a count")
    return value


def _stream_state(content: Any) -> StreamState:
    get = _Reader(content)
    bad = get("bad_samples", list)
    if not all(isinstance(reason, str) for reason in bad):
        raise StateError("bad_samples are no texts")
    return StreamState(_count(get("position", int)), tuple(bad))


def _domain_state(content: Any) -> DomainState:
    get = _Reader(content)
    return DomainState(get("name", str), get("split", str), _count(get("num_rows", int)))


def describe_domain(domain: Domain) -> DomainState:
    """Return what tells the domain from another."""
    return DomainState(domain.name, domain.split, domain.num_rows)


def arguments_as_json(args: UdaTrainingArguments) -> dict[str, Any]:
    """Return the arguments as they come back from a JSON file."""
    return json.loads(json.dumps(dataclasses.asdict(args)))


def check_same_run(
    state: RunState, args: UdaTrainingArguments, domains: Mapping[str, Domain], num_processes: int
) -> None:
    """Check that a run of these arguments, on these data, ends as the run of the checkpoint would have.

    Args:
        state: Of the checkpoint.
        args: Of this run. They may differ in `FREE_ARGUMENTS`.
        domains: By role. Their files may lie elsewhere than before.
        num_processes: Of this run.

    Raises:
        RunMismatchError: If it would not. The message names what differs.
    """
    defaults, now = arguments_as_json(UdaTrainingArguments()), arguments_as_json(args)
    changed = [
        f"--{name} was {state.arguments.get(name, default)}, is {now[name]}"
        for name, default in defaults.items()
        if name not in FREE_ARGUMENTS | _DATA_ARGUMENTS and state.arguments.get(name, default) != now[name]
    ]
    if changed:
        raise RunMismatchError(
            f"it is of a run with other arguments ({'; '.join(changed)}): give those, or start a new run"
        )
    if len(state.streams) != num_processes:
        raise RunMismatchError(
            f"it is of {len(state.streams)} processes, and this run has {num_processes}: launch as many, since samples "
            "and random choices belong to a process"
        )
    if domains.keys() != state.domains.keys():
        raise RunMismatchError(f"it is of a run on {', '.join(state.domains)}, not {', '.join(domains)}")
    for role, domain in domains.items():
        before, here = state.domains[role], describe_domain(domain)
        if (before.split, before.num_rows) != (here.split, here.num_rows):
            raise RunMismatchError(
                f"its {role} {before.name} had {before.num_rows} images ({before.split}), and {here.name} has "
                f"{here.num_rows} ({here.split}): give the same images, or start a new run"
            )
        if before.name != here.name:
            logger.warning("the %s was %s and is %s: taken for the same images", role, before.name, here.name)
