"""From the parts of a run that remember something to a checkpoint, and back."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import gather_object

from mfm_hf.data.domain import Domain
from mfm_hf.uda.adaptation_step import AdaptationStep
from mfm_hf.uda.run import checkpoint as checkpoints
from mfm_hf.uda.run import run_folder
from mfm_hf.uda.run.evaluations import Evaluations
from mfm_hf.uda.run.run_log import RunLog
from mfm_hf.uda.run.run_state import RunMismatchError, RunState, arguments_as_json, check_same_run, describe_domain
from mfm_hf.uda.run.streams import Streams
from mfm_hf.uda.training_args import UdaTrainingArguments


class Checkpointer:
    """Saves a run into its folder and brings it back.

    Args:
        args: Of the run.
        accelerator: The processes.
        domains: By role, what the run trains on.
        adaptation: Student, teacher, optimizer, and the guard of the steps.
        evaluations: What was measured.
    """

    def __init__(
        self,
        args: UdaTrainingArguments,
        accelerator: Accelerator,
        domains: Mapping[str, Domain],
        adaptation: AdaptationStep,
        evaluations: Evaluations,
    ) -> None:
        self.args = args
        self.output_dir = Path(args.output_dir)
        self.accelerator = accelerator
        self.domains = domains
        self.adaptation = adaptation
        self.evaluations = evaluations

    def save(self, streams: Streams, log: RunLog) -> OSError | None:
        """Write `checkpoint-STEP`. Call it in every process.

        Returns:
            None, or why it could not be written; the checkpoints before are then left as they are.
        """
        by_process = gather_object([streams.state()])
        predictions = self.evaluations.tensors()  # of all processes, which must all ask for them
        if not self.accelerator.is_main_process:
            return None
        scaler = self.accelerator.scaler
        tensors = {**self.adaptation.tensors(), "log": log.tensors(), "predictions": predictions}
        folder = self.output_dir / f"checkpoint-{self.adaptation.number}"
        try:
            state = RunState(
                step=self.adaptation.number,
                arguments=arguments_as_json(self.args),
                domains={role: describe_domain(domain) for role, domain in self.domains.items()},
                streams=by_process,
                journals=run_folder.journal_sizes(self.output_dir),
                parts={"evaluations": self.evaluations.state_dict(), "guard": self.adaptation.guard.state_dict()},
                scaler=None if scaler is None else scaler.state_dict(),
            )
            checkpoints.save_checkpoint(folder, tensors, state)
            checkpoints.prune(folder, self.args.save_total_limit)
        except OSError as error:
            return error
        return None

    def load(self, folder: Path) -> RunState:
        """Go back to a checkpoint and return its state. Streams and log go back when they are opened.

        Raises:
            ValueError: If the checkpoint is damaged, or of another network or run.
        """
        state = checkpoints.load_state(folder)
        try:
            check_same_run(state, self.args, self.domains, self.accelerator.num_processes)
            tensors = {name: checkpoints.load_tensors(folder, name) for name in self.adaptation.tensors()}
            self.adaptation.load_tensors(tensors, state.step)
        except RunMismatchError as error:
            raise ValueError(f"cannot go on from {folder}: {error}") from None
        except RuntimeError:
            raise ValueError(
                f"{folder} is of another network than this run's: use the same --model and --mfm"
            ) from None
        self.evaluations.load_state_dict(state.parts.get("evaluations", {}))
        self.evaluations.load_tensors(checkpoints.load_tensors(folder, "predictions"))
        self.adaptation.guard.load_state_dict(state.parts.get("guard", {}))
        if self.accelerator.scaler is not None and state.scaler is not None:
            self.accelerator.scaler.load_state_dict(state.scaler)
        return state
