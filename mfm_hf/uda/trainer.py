"""The trainer: domains in, an ordinary transformers checkpoint out, and the books of the run in between."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import TensorBoardTracker, WandBTracker
from accelerate.utils import broadcast
from safetensors import SafetensorError
from torch import Tensor

from mfm_hf.data.domain import Domain
from mfm_hf.data.workers import worker_deaths_named
from mfm_hf.files import write_json
from mfm_hf.hub.image_processor import save_image_processor
from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.uda.adaptation_step import AdaptationStep, Batch
from mfm_hf.uda.choices import StepChoices
from mfm_hf.uda.image_sizes import image_box
from mfm_hf.uda.recipes import Recipe
from mfm_hf.uda.resolution import describe_recipe, resolve_recipe
from mfm_hf.uda.run import checkpoint as checkpoints
from mfm_hf.uda.run import run_folder, run_lock
from mfm_hf.uda.run.accelerator import (
    describe_hardware,
    flat_config,
    from_main_process,
    make_accelerator,
    peak_memory,
)
from mfm_hf.uda.run.best_network import recover_best, write_best
from mfm_hf.uda.run.checkpointer import Checkpointer
from mfm_hf.uda.run.evaluations import Evaluations
from mfm_hf.uda.run.pictures import draw_views
from mfm_hf.uda.run.preemption import Preempted, StopRequest
from mfm_hf.uda.run.pushes import Pushes
from mfm_hf.uda.run.run_log import RunLog
from mfm_hf.uda.run.run_state import RunState
from mfm_hf.uda.run.streams import Streams, batch_size_per_step
from mfm_hf.uda.training_args import UdaTrainingArguments


class UdaTrainer:
    """Adapts a segmentation network from a source domain to a target domain.

    Args:
        model: The network, as a training class.
        args: Everything that the run depends on.
        source: Labelled domain.
        target: Domain whose labels are not read; may be None under a recipe that looks at the source alone.
        eval_domain: Labelled domain to measure on; None to measure nothing.
        recipe: The method. Default: the one that `args` describe.
        accelerator: Device, precision and processes. Default: made after `args`.
        source_eval_domain: Labelled images of the source that it is not trained on, to measure on; None for none.

    Raises:
        ValueError: If the recipe needs a target and there is none, the accelerator shards the weights, or the best
            network is to be picked by a score that will not be measured.
    """

    def __init__(
        self,
        model: DomainAdaptationModel,
        args: UdaTrainingArguments,
        source: Domain,
        target: Domain | None = None,
        eval_domain: Domain | None = None,
        recipe: Recipe | None = None,
        accelerator: Accelerator | None = None,
        source_eval_domain: Domain | None = None,
    ) -> None:
        self.args = args
        self.recipe = recipe or resolve_recipe(args)
        self.source, self.target, self.eval_domain = source, target, eval_domain
        self.output_dir = Path(args.output_dir)
        self.accelerator = accelerator or make_accelerator(args)
        if self.recipe.uses_target and target is None:
            raise ValueError(f"the recipe {self.recipe.name} adapts to a target domain: give one")
        self.student = model
        self.adaptation = AdaptationStep(model, self.recipe, args, self.accelerator)
        has_teacher = self.adaptation.teacher is not None
        self.evaluations = Evaluations(
            args, self.accelerator, eval_domain, target, source_eval_domain, has_teacher=has_teacher
        )
        self.domains = {"source": source}  # those that are trained on
        if target is not None and self.recipe.uses_target:
            self.domains["target"] = target
        self.checkpointer = Checkpointer(args, self.accelerator, self.domains, self.adaptation, self.evaluations)
        self.pushes = Pushes(args)
        self.failed_saves: list[dict[str, Any]] = []

    @property
    def step(self) -> int:
        """Number of training steps done."""
        return self.adaptation.number

    def training_step(
        self, source: Batch, target: Batch | None, choices: StepChoices | None = None
    ) -> dict[str, Tensor]:
        """Do one optimizer step and return the unweighted losses by name.

        Args:
            source: `pixel_values`, uint8 (batch, 3, height, width), and `labels`, int64 (batch, height, width).
            target: `pixel_values` of the target, likewise; None under a recipe that looks at the source alone.
            choices: The random choices of the step. Default: drawn, as a function of (seed, step, process).
        """
        return self.adaptation(source, target, choices)

    # The run

    def train(self) -> dict[str, Any]:
        """Train to the last step, export the network, and return the results that `results.json` holds.

        Raises:
            FileExistsError: If the output folder holds another run.
            FolderInUseError: If another run is at work in it.
            DamagedCheckpointError: If the run cannot go on from the checkpoint that was named.
            BadExampleError: If the data holds more bad samples than allowed.
            WorkerDiedError: If a process that decodes images has died.
            Preempted: If a signal has ended the run, which is a `SystemExit`; all is saved.
            PublishError: If the network is to be published, and the Hub refuses the repository.
        """
        from_main_process(self.accelerator, lambda: self.pushes.check(self._facts()))
        with ExitStack() as stack:
            folder = from_main_process(self.accelerator, lambda: self._claim_folder(stack))
            state = None if folder is None else self.checkpointer.load(folder)
            own = None if state is None else state.streams[self.accelerator.process_index]
            with closing(Streams(self.domains, self.args, self.recipe, self.accelerator, own)) as streams:
                log = self._start_run(len(streams), folder, state)
                with log.bar, worker_deaths_named(), StopRequest(self.accelerator) as stop:
                    self._loop(streams, log, stop)
            return self._finish(log, streams.num_bad)

    def _claim_folder(self, stack: ExitStack) -> Path | None:
        """Lock the output folder, changing nothing in it, and return the checkpoint to go on from, if any."""
        resume_from = self.args.resume_from_checkpoint
        run_folder.check(self.output_dir, resume_from=resume_from, overwrite=self.args.overwrite_output_dir)
        stack.enter_context(run_lock.hold(self.output_dir))
        return None if resume_from is None else checkpoints.find_checkpoint(resume_from, self.output_dir)

    def _start_run(self, num_streams: int, folder: Path | None, state: RunState | None) -> RunLog:
        """Make the output folder this run's own. All that can be refused has been by now."""
        args, num_processes = self.args, self.accelerator.num_processes
        if self.accelerator.is_main_process:
            if state is not None and run_folder.continues(self.output_dir, args.resume_from_checkpoint):
                run_folder.go_back(self.output_dir, state.journals)
            else:
                run_folder.clear(self.output_dir)
            write_json(self.output_dir / "training_args.json", dataclasses.asdict(args))
        self.accelerator.wait_for_everyone()
        self.accelerator.init_trackers("mfm_hf", config=flat_config(args))
        images_per_step = num_streams * batch_size_per_step(args, self.recipe) * num_processes
        log = RunLog(self.accelerator, self.output_dir, self.step, self.recipe.max_steps, images_per_step)
        if folder is not None:
            log.load_tensors(checkpoints.load_tensors(folder, "log"))
            self._recover_best(folder, log)
        return log

    def _recover_best(self, folder: Path, log: RunLog) -> None:
        if self.args.metric_for_best_model is None:
            return
        with self.accelerator.main_process_first():  # the others find what it copied
            lost = self.evaluations.selection.go_on_with(recover_best(self.output_dir, folder, self.step))
        if lost is not None:
            log.say(f"warning: {lost}")

    def _loop(self, streams: Streams, log: RunLog, stop: StopRequest) -> None:
        args, last = self.args, self.recipe.max_steps

        def due(every: int) -> bool:
            return every > 0 and self.step % every == 0

        while self.step < last:
            batches = streams.next_batches()
            logs = (self.step + 1) % args.logging_steps == 0 or self.step + 1 == last
            measure = args.log_gradient_norms and logs
            losses = self.adaptation(batches["source"], batches.get("target"), measure=measure)
            log.add({} if self.adaptation.guard.in_a_row else losses)  # nothing of a step that was skipped
            evaluates = due(args.eval_steps) and self.step < last and bool(self.evaluations)
            saves, draws = due(args.save_steps), due(args.picture_steps)
            if logs or evaluates or saves or draws:
                log.flush(self.step, self.adaptation.state_of_training())
            scores = self.evaluate() if evaluates else {}
            if evaluates:
                self._log_evaluation(log, scores)
            if saves:
                self.save_checkpoint(streams, log)
            if evaluates or saves:
                self._push_snapshot(scores, log)
            if draws:
                self._draw_views()
            if evaluates or saves or draws:
                log.restart_clock()
            if signum := stop.heard():
                self._end_early(signum, streams, log, saved=saves)

    def _end_early(self, signum: int, streams: Streams, log: RunLog, saved: bool) -> None:
        """Save, and end the run at a signal."""
        if not saved:
            self.save_checkpoint(streams, log)
        self.accelerator.wait_for_everyone()  # a process that ends has its launcher end the others
        log.say(f"ended after step {self.step} of {self.recipe.max_steps}: go on with --resume_from_checkpoint latest")
        self.accelerator.end_training()
        raise Preempted(signum)

    def evaluate(self) -> dict[str, Any]:
        """Measure the student, in float32: what is reported is what will be published.

        Returns:
            The scores of `Evaluations.measure`.

        Raises:
            ValueError: If there is nothing to measure on.
        """
        if not self.evaluations:
            raise ValueError("this trainer has nothing to evaluate on: give it eval_domain")
        for buffer in self.student.buffers():  # BatchNorm's statistics: each process has seen other images
            broadcast(buffer)
        teacher = self.adaptation.teacher
        return self.evaluations.measure(self.student.to_inference(), None if teacher is None else teacher.model)

    def _log_evaluation(self, log: RunLog, scores: Mapping[str, Any]) -> None:
        is_best = self.evaluations.note(self.step, scores)
        numbers = {name: value for name, value in self.evaluations.history[-1].items() if name != "step"}
        log.write(self.step, {f"eval/{name}": value for name, value in numbers.items()})
        log.say(f"step {self.step}: " + ", ".join(f"{name} {value:.4f}" for name, value in numbers.items()))
        for line in self.evaluations.collapsed_classes(scores):
            log.say(f"warning: {line}")
        if is_best and self.args.metric_for_best_model is not None and self.accelerator.is_main_process:
            self._export_best(scores, log)

    def _export_best(self, scores: Mapping[str, Any], log: RunLog) -> None:
        """Export the network that has just become the best one; as with checkpoints, a full disk ends no training."""
        try:
            results = {**scores, **self._facts(), **self.evaluations.selection.marks()}
            write_best(self.output_dir, partial(self._write_measured, results=results))
        except (OSError, SafetensorError) as error:
            self.evaluations.selection.take_back()
            self.failed_saves.append({"step": self.step, "reason": str(error)})
            log.say(f"warning: the best network so far could not be exported ({error}); the training goes on")

    def _push_snapshot(self, scores: Mapping[str, Any], log: RunLog) -> None:
        """Publish the network as it is now, in the background; as with checkpoints, a full disk ends no training."""
        if not (self.pushes.on_the_way and self.accelerator.is_main_process):
            return
        results = {**scores, **self._facts(), "seconds_per_step": log.seconds_per_step}
        try:
            self.pushes.push_snapshot(self.step, partial(self._write_measured, results=results), log.say)
        except (OSError, SafetensorError) as error:
            self.failed_saves.append({"step": self.step, "reason": str(error)})
            log.say(f"warning: the network could not be written to be published ({error}); the training goes on")

    def _draw_views(self) -> None:
        """Draw the views of the last step into a file, and to the trackers that take images."""
        if not self.accelerator.is_main_process:
            return
        picture = draw_views(self.adaptation.views, self.student.to_inference(), self.source.classes)
        folder = self.output_dir / "pictures"
        folder.mkdir(exist_ok=True)
        picture.save(folder / f"step-{self.step}.png")
        for tracker in self.accelerator.trackers:
            if isinstance(tracker, (TensorBoardTracker, WandBTracker)):
                tracker.log_images({"views": np.asarray(picture)[None]}, step=self.step)

    def _finish(self, log: RunLog, num_bad: Mapping[str, int]) -> dict[str, Any]:
        """Export first, so that nothing that comes after can lose the network; then measure and write the results."""
        self.accelerator.wait_for_everyone()
        if self.accelerator.is_main_process:
            self.save_model()
        scores: dict[str, Any] = {"mean_iou": None, "per_class_iou": None}
        if self.evaluations and self.args.final_evaluation:
            scores = self.evaluate()
            self._log_evaluation(log, scores)
        self.pushes.finish()
        results = {
            **scores,
            **self._facts(),
            "picked_by": None,  # the final network, good or bad
            "evaluations": self.evaluations.history,
            "seconds_per_step": log.seconds_per_step,
            "peak_memory_bytes": peak_memory(self.accelerator.device),
            "bad_samples": dict(num_bad),
            "failed_saves": self.failed_saves,
            "failed_pushes": self.pushes.failures,
        }
        if self.accelerator.is_main_process:
            write_json(self.output_dir / run_folder.RESULTS_FILE, results)
        self.accelerator.end_training()
        return results

    def _facts(self) -> dict[str, Any]:
        """Return what the results say of the run besides its scores."""
        return {
            "best": self.evaluations.selection.best,
            "recipe": self.recipe.name,
            "mfm": bool(self.recipe.rebuilt_views),
            "objectives": [term.name for term in self.recipe.objectives],
            "resolved_recipe": describe_recipe(self.recipe),
            "notes": list(self.recipe.notes),
            "model": type(self.student).inference_class.__name__,
            "steps": self.step,
            "max_steps": self.recipe.max_steps,
            "skipped_steps": self.adaptation.guard.num_skipped,
            "seed": self.args.seed,
            "parameters_in_training": count_parameters(self.student),
            "parameters_exported": count_parameters(self.student.to_inference()),
            "source": self.source.name,
            "target": self.args.target,
            "eval": None if self.eval_domain is None else f"{self.eval_domain.name} ({self.eval_domain.split})",
            "encode": self.adaptation.encode_mode,
            "num_processes": self.accelerator.num_processes,
            "hardware": describe_hardware(self.accelerator),
            "arguments": self.args.changed(),
        }

    # Saving

    def save_model(self) -> None:
        """Write the inference network and its image processor into the output folder."""
        run_folder.write_export(self.output_dir, self._write_network)

    def _write_network(self, folder: Path) -> None:
        self.student.save_pretrained(folder)
        args = self.args
        seen, asked = (self.source, args.source_size) if self.target is None else (self.target, args.target_size)
        save_image_processor(folder, image_box(seen, self.recipe.crop_size, asked))

    def _write_measured(self, folder: Path, results: Mapping[str, Any]) -> None:
        self._write_network(folder)
        write_json(folder / "training_args.json", dataclasses.asdict(self.args))
        write_json(folder / run_folder.RESULTS_FILE, results)

    def push_to_hub(self) -> None:
        """Upload the exported network, from the main process. The local files stay whatever happens.

        Raises:
            PublishError: If the Hub refuses or cannot be reached.
        """
        if self.accelerator.is_main_process:
            print(f"the network is on the Hub: {self.pushes.push_final()}")

    def save_checkpoint(self, streams: Streams, log: RunLog) -> None:
        """Write all that a resumed run needs into `checkpoint-STEP`. Call it in every process.

        A disk that is full or cannot be written to ends no training: the failure is told and counted, and the next
        save tries again.
        """
        if error := self.checkpointer.save(streams, log):
            self.failed_saves.append({"step": self.step, "reason": str(error)})
            log.say(
                f"warning: no checkpoint of step {self.step} ({error}); the run goes on, and the next save tries again"
            )


def count_parameters(model: torch.nn.Module) -> int:
    """Return the number of parameters, buffers left out."""
    return sum(parameter.numel() for parameter in model.parameters())
