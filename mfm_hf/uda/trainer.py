"""The trainer: domains in, an ordinary transformers checkpoint out, and the books of the run in between."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.tracking import TensorBoardTracker, WandBTracker, get_available_trackers
from accelerate.utils import DistributedDataParallelKwargs, broadcast
from torch import Tensor

from mfm_hf.data.class_statistics import collect_class_statistics
from mfm_hf.data.domain import Domain
from mfm_hf.data.loading import TrainingStream
from mfm_hf.data.rare_class_sampling import RareClassSampler, RareClassSampling
from mfm_hf.data.transforms import TrainingTransform
from mfm_hf.evaluation.evaluator import evaluate_model
from mfm_hf.files import write_json
from mfm_hf.hub.image_processor import save_image_processor
from mfm_hf.hub.publish import publish
from mfm_hf.mfm.modeling_mfm import DomainAdaptationModel
from mfm_hf.uda import checkpoint as checkpoints
from mfm_hf.uda import run_folder
from mfm_hf.uda.adaptation_step import AdaptationStep, Batch
from mfm_hf.uda.choices import StepChoices
from mfm_hf.uda.collapse import CollapseWatch
from mfm_hf.uda.pictures import draw_views
from mfm_hf.uda.recipes import Recipe
from mfm_hf.uda.resolution import resolve_recipe
from mfm_hf.uda.run_log import RunLog
from mfm_hf.uda.training_args import UdaTrainingArguments

DEFAULT_BAD_TARGET_SAMPLES = 10


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

    Raises:
        ValueError: If the recipe needs a target and there is none, or the accelerator shards the weights.
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
        self.best: dict[str, float] | None = None
        self.collapse_watch = CollapseWatch()

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
            BadExampleError: If the data holds more bad samples than allowed.
        """
        args = self.args
        if self.accelerator.is_main_process:
            resumes = args.resume_from_checkpoint is not None
            run_folder.check(self.output_dir, resume=resumes, overwrite=args.overwrite_output_dir)
        positions = {"source": 0, "target": 0}
        if args.resume_from_checkpoint is not None:
            folder = checkpoints.find_checkpoint(args.resume_from_checkpoint, self.output_dir)
            positions = self.load_checkpoint(folder)
        streams = {"source": self._stream(self.source, "source", positions)}
        if self.recipe.uses_target and self.target is not None:
            streams["target"] = self._stream(self.target, "target", positions)
        try:
            log = self._start_run(len(streams))
            with log.bar:
                self._loop(streams, log)
            num_bad = {role: stream.num_bad for role, stream in streams.items()}
        finally:
            for stream in streams.values():
                stream.close()
        return self._finish(log, num_bad)

    def _start_run(self, num_streams: int) -> RunLog:
        """Make the output folder this run's own. All that can be refused has been by now."""
        args, num_processes = self.args, self.accelerator.num_processes
        if self.accelerator.is_main_process:
            if args.resume_from_checkpoint is None:
                run_folder.clear(self.output_dir)
            write_json(self.output_dir / "training_args.json", dataclasses.asdict(args))
        self.accelerator.wait_for_everyone()
        self.accelerator.init_trackers("mfm_hf", config=flat_config(args))
        images_per_step = num_streams * self.recipe.per_device_train_batch_size * num_processes
        return RunLog(self.accelerator, self.output_dir, self.step, self.recipe.max_steps, images_per_step)

    def _loop(self, streams: Mapping[str, TrainingStream], log: RunLog) -> None:
        args, last = self.args, self.recipe.max_steps

        def due(every: int) -> bool:
            return every > 0 and self.step % every == 0

        while self.step < last:
            batches = {role: next(stream) for role, stream in streams.items()}
            logs = (self.step + 1) % args.logging_steps == 0 or self.step + 1 == last
            measure = args.log_gradient_norms and logs
            log.add(self.adaptation(batches["source"], batches.get("target"), measure=measure))
            evaluates = due(args.eval_steps) and self.step < last and self.eval_domain is not None
            saves, draws = due(args.save_steps), due(args.picture_steps)
            if logs or evaluates or saves or draws:
                log.flush(self.step, self.adaptation.state_of_training())
            if evaluates:
                self._log_evaluation(log, self.evaluate())
            if saves:
                self.save_checkpoint({role: stream.position for role, stream in streams.items()})
            if draws:
                self._draw_views()
            if evaluates or saves or draws:
                log.restart_clock()

    def evaluate(self) -> dict[str, Any]:
        """Measure the student on the evaluation domain, in float32: what is reported is what will be published.

        Raises:
            ValueError: If there is none.
        """
        if self.eval_domain is None:
            raise ValueError("this trainer has no evaluation domain: give it eval_domain")
        for buffer in self.student.buffers():  # BatchNorm's statistics: each process has seen other images
            broadcast(buffer)
        return evaluate_model(
            self.student.to_inference(),
            self.eval_domain,
            batch_size=self.args.per_device_eval_batch_size,
            accelerator=self.accelerator,
        )

    def _log_evaluation(self, log: RunLog, scores: Mapping[str, Any]) -> None:
        log.write(self.step, {"eval/mean_iou": scores["mean_iou"], "eval/overall_accuracy": scores["overall_accuracy"]})
        log.say(f"step {self.step}: mean IoU on {self.args.eval or self.args.target} {scores['mean_iou']:.4f}")
        for line in self.collapse_watch.update(scores["per_class_iou"]):
            log.say(f"warning: {line}")
        if self.best is None or scores["mean_iou"] > self.best["mean_iou"]:
            self.best = {"mean_iou": scores["mean_iou"], "step": self.step}

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
        if self.eval_domain is not None and self.args.final_evaluation:
            scores = self.evaluate()
            self._log_evaluation(log, scores)
        results = {
            **scores,
            "best": self.best,
            "recipe": self.recipe.name,
            "mfm": bool(self.recipe.rebuilt_views),
            "objectives": [term.name for term in self.recipe.objectives],
            "notes": list(self.recipe.notes),
            "model": type(self.student).inference_class.__name__,
            "steps": self.step,
            "seed": self.args.seed,
            "seconds_per_step": log.seconds_per_step,
            "parameters_in_training": count_parameters(self.student),
            "parameters_exported": count_parameters(self.student.to_inference()),
            "bad_samples": dict(num_bad),
            "source": self.source.name,
            "target": self.args.target,
            "eval": None if self.eval_domain is None else f"{self.eval_domain.name} ({self.eval_domain.split})",
            "encode": self.adaptation.encode_mode,
            "num_processes": self.accelerator.num_processes,
            "arguments": self.args.changed(),
        }
        if self.accelerator.is_main_process:
            write_json(self.output_dir / run_folder.RESULTS_FILE, results)
        self.accelerator.end_training()
        return results

    # Saving

    def save_model(self) -> None:
        """Write the inference network and its image processor into the output folder."""

        def write(folder: Path) -> None:
            self.student.save_pretrained(folder)
            save_image_processor(folder)

        run_folder.write_export(self.output_dir, write)

    def push_to_hub(self) -> None:
        """Upload the exported network, from the main process. The local files stay whatever happens.

        Raises:
            PublishError: If the Hub refuses or cannot be reached.
        """
        if self.accelerator.is_main_process:
            repo_id = self.args.hub_model_id or self.output_dir.resolve().name
            print(f"the network is on the Hub: {publish(self.output_dir, repo_id)}")

    def save_checkpoint(self, positions: Mapping[str, int]) -> None:
        """Write all that a resumed run needs into `checkpoint-STEP`.

        Args:
            positions: By stream, the position of its next sample.
        """
        if not self.accelerator.is_main_process:
            return
        state = {"step": self.step, "positions": positions, "best": self.best, "recipe": self.recipe.name}
        folder = self.output_dir / f"checkpoint-{self.step}"
        checkpoints.save_checkpoint(folder, self.adaptation.tensors(), state)
        if self.args.save_total_limit is not None:
            checkpoints.prune(self.output_dir, self.args.save_total_limit)

    def load_checkpoint(self, folder: Path) -> dict[str, int]:
        """Go back to a checkpoint and return the streams' positions.

        Raises:
            ValueError: If the checkpoint is damaged or of another network or recipe.
        """
        state = checkpoints.load_state(folder)
        if state["recipe"] != self.recipe.name:
            raise ValueError(f"{folder} was written under --recipe {state['recipe']}, this run is {self.recipe.name}")
        tensors = {name: checkpoints.load_tensors(folder, name) for name in self.adaptation.tensors()}
        try:
            self.adaptation.load_tensors(tensors, state["step"])
        except RuntimeError:
            raise ValueError(
                f"{folder} is of another network than this run's: use the same --model and --mfm"
            ) from None
        self.best = state["best"]
        return state["positions"]

    def _rare_class_sampler(self, domain: Domain) -> RareClassSampler | None:
        recipe = self.recipe
        if not recipe.rare_class_sampling:
            return None
        with self.accelerator.main_process_first():  # the others find what it cached
            statistics = collect_class_statistics(domain, num_workers=self.args.dataloader_num_workers)
        config = RareClassSampling(
            temperature=recipe.rare_class_temperature,
            min_pixels=recipe.rare_class_min_pixels,
            min_crop_ratio=recipe.rare_class_min_crop_ratio,
        )
        return RareClassSampler(statistics, config)

    def _stream(self, domain: Domain, role: str, positions: Mapping[str, int]) -> TrainingStream:
        args, recipe = self.args, self.recipe
        transform = TrainingTransform(recipe.crop_size, recipe.source_cat_max_ratio, ignore_index=args.ignore_index)
        if role == "target" and args.pseudo_label_margins is not None:
            top, bottom, left, right = args.pseudo_label_margins
            transform = dataclasses.replace(transform, margins=(top, bottom, left, right))
        default_bad = DEFAULT_BAD_TARGET_SAMPLES if role == "target" else 0
        return TrainingStream(
            domain,
            transform,
            batch_size=recipe.per_device_train_batch_size,
            seed=2 * args.seed + (role == "target"),  # streams of one run must not shuffle alike
            num_workers=args.dataloader_num_workers,
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            start=positions[role],
            rare_class_sampling=self._rare_class_sampler(domain) if role == "source" else None,
            max_bad_samples=default_bad if args.max_bad_samples is None else args.max_bad_samples,
            pin_memory=self.accelerator.device.type == "cuda",
        )


def make_accelerator(args: UdaTrainingArguments) -> Accelerator:
    """Make the accelerator that the arguments ask for."""
    # The last pass of a step may then miss the Rebuilder, the encoder or the decoder, whose gradients DDP waits for.
    available = {"all", *(tracker.value for tracker in get_available_trackers())}
    missing = [name for name in args.report_to or () if name not in available]
    if missing:
        raise ValueError(f"--report_to {missing[0]}: no such tracker is installed; try pip install {missing[0]}")
    misses_some = args.mfm and (args.mfm_view == "source" or args.mfm_gradient != "both" or args.mfm_start_step > 0)
    return Accelerator(
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=misses_some)],
        mixed_precision=args.mixed_precision,
        cpu=args.use_cpu,
        log_with=args.report_to,
        project_dir=args.output_dir,
    )


def flat_config(args: UdaTrainingArguments) -> dict[str, Any]:
    """Return the arguments as trackers take them: TensorBoard, for one, refuses lists and None."""
    return {name: value if isinstance(value, (int, float, str)) else str(value) for name, value in vars(args).items()}


def count_parameters(model: torch.nn.Module) -> int:
    """Return the number of parameters, buffers left out."""
    return sum(parameter.numel() for parameter in model.parameters())
