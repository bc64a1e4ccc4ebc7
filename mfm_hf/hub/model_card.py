"""The model card of a checkpoint folder, made of the files in it. What was not measured or noted is left out."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers.utils import IMAGE_PROCESSOR_NAME

from mfm_hf.hub.image_processor import box_of
from mfm_hf.hub.public_results import public_name
from mfm_hf.hub.remote_code import needs_code
from mfm_hf.hub.starting_weights import ARGUMENTS_FILE, StartingWeights, starting_weights

CARD_FILE = "README.md"
CONFIG_FILE = "config.json"
RESULTS_FILE = "results.json"
CONVERSION_FILE = "conversion.json"
# Stands in a card of ours, which may be written anew; a card without it is the user's own.
MARKER = "<!-- Written by mfm_hf from the results of the run. Remove this line to keep changes of your own. -->"

_TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
_NETWORKS = {"segformer": "SegFormer", "daformer": "DAFormer", "deeplabv2": "DeepLab-V2", "hrda": "HRDA"}
_METHODS = {
    name: f"{title} ([arXiv {paper}](https://arxiv.org/abs/{paper}))"
    for name, title, paper in (
        ("dacs", "DACS", "2007.08702"),
        ("daformer", "DAFormer", "2111.14887"),
        ("hrda", "HRDA", "2204.13132"),
        ("mic", "MIC", "2212.01322"),
    )
}

# Where a run's files lie, how it was watched, or what the card says elsewhere: nothing that changes the network.
_NO_RECIPE = (
    "source", "target", "eval", "recipe", "mfm", "model", "backbone", "pretrained_backbone", "model_name_or_path",
    "seed", "max_steps", "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "save_steps",
    "save_total_limit", "eval_steps", "per_device_eval_batch_size", "logging_steps", "dataloader_num_workers",
    "use_cpu", "report_to", "push_to_hub", "hub_model_id", "final_evaluation", "picture_steps", "log_gradient_norms",
    "source_eval", "selection_images", "metric_for_best_model", "hub_strategy", "hub_private_repo",
    "baseline_results", "label_map", "image_column", "label_column", "shuffle_buffer",
)  # fmt: skip


def write_model_card(folder: Path, repo_id: str | None = None, baseline: Mapping[str, Any] | None = None) -> Path:
    """Write the model card of a checkpoint folder as README.md, whole or not at all.

    A README.md that does not hold `MARKER` is the user's own and stays as it is.

    Args:
        folder: A checkpoint folder.
        repo_id, baseline: As in `render_model_card`.

    Returns:
        The file.

    Raises:
        FileNotFoundError, ValueError: As `render_model_card` does.
    """
    file = folder / CARD_FILE
    if file.is_file() and MARKER not in file.read_text(encoding="utf-8"):
        return file
    unfinished = file.with_name(f".{file.name}.tmp")
    unfinished.write_text(render_model_card(folder, repo_id, baseline), encoding="utf-8")
    unfinished.replace(file)
    return file


def render_model_card(folder: Path, repo_id: str | None = None, baseline: Mapping[str, Any] | None = None) -> str:
    """Return the card as Markdown with the Hub's metadata.

    Args:
        folder: Holds config.json, and results.json and training_args.json where the run wrote them.
        repo_id: `ORG/NAME`, by which the card tells how to load the model, with the code that `publish` puts there.
            Default: the name of the folder, in which there is no code.
        baseline: Results of the source-only training to compare with, as `read_baseline` returns them.

    Raises:
        FileNotFoundError: If there is no config.json.
        ValueError: If one of the files is damaged.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise FileNotFoundError(f"{folder} holds no {CONFIG_FILE}: give the output folder of a training or conversion")
    names = (CONFIG_FILE, RESULTS_FILE, ARGUMENTS_FILE, CONVERSION_FILE)
    config, results, args, conversion = (read_json(folder / name) for name in names)
    name = repo_id or folder.resolve().name
    source, target = (_public(results.get(role) or args.get(role)) for role in ("source", "target"))
    network = _NETWORKS.get(config["model_type"], config["model_type"])
    labels = [config["id2label"][key] for key in sorted(config["id2label"], key=int)]
    weights = starting_weights(args)
    recipe, mfm = results.get("recipe"), results.get("mfm", False)
    evaluated_on, split = _evaluated_on(results)
    card = ModelCard.from_template(
        _metadata(name, results, weights),
        template_path=str(_TEMPLATE),
        marker=MARKER,
        title=_title(network, recipe, source, target),
        network=network,
        labels=labels,
        recipe=recipe,
        recipe_title=_METHODS.get(str(recipe), f"the recipe `{recipe}`"),
        mfm=mfm,
        notes=results.get("notes"),
        source=source,
        target=target,
        conversion=conversion,
        from_mix_transformer=conversion.get("encoder", "").startswith("mit-"),
        loading=_loading(name, needs_code(config["model_type"]), carries_code=repo_id is not None),
        carries_code=repo_id is not None and needs_code(config["model_type"]),
        image_box=box_of(read_json(folder / IMAGE_PROCESSOR_NAME)),
        ious=_ious(results, labels),
        eval_classes=results.get("eval_classes"),
        mean_iou=_percent(results.get("mean_iou")),
        baseline=baseline,
        baseline_ious=_ious(baseline or {}, labels),
        baseline_mean_iou=_percent((baseline or {}).get("mean_iou")),
        evaluated_on=evaluated_on,
        split=split,
        num_images=results.get("num_images"),
        picked_by=results.get("picked_by"),
        picked_by_target_labels=results.get("picked_by_target_labels", False),
        training=_training(results, weights),
        resolved_recipe=_recipe(results),
        arguments=_arguments(results.get("arguments", {}), with_mfm=mfm),
        base_model=weights.base_model,
        license=weights.license,
    )
    return str(card)


def read_json(file: Path) -> dict[str, Any]:
    """Return what a JSON file holds; nothing where there is no such file."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): delete it, or write it again") from error


def _metadata(name: str, results: Mapping[str, Any], weights: StartingWeights) -> ModelCardData:
    """Return the metadata. A licence that asks for no more than its mention is left for the owner to choose."""
    license = weights.license
    eval_results = _eval_results(results)
    terms: dict[str, Any] = {}
    if license is not None and license.noncommercial:
        terms = {"license": license.id, "license_name": license.name, "license_link": license.link}
    tags = ["semantic-segmentation", "unsupervised-domain-adaptation", "mfm_hf"]
    tags += [results["recipe"].replace("_", "-")] if "recipe" in results else []
    tags += ["masked-feature-modeling"] if results.get("mfm") else []
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="image-segmentation",
        tags=tags,
        base_model=weights.base_model,
        **terms,
        model_name=None if eval_results is None else name.rpartition("/")[2],  # a name of results
        eval_results=eval_results,
    )


def _eval_results(results: Mapping[str, Any]) -> list[EvalResult] | None:
    """Return the scores for the model-index, as shares from 0 to 1; None if nothing was measured."""
    domain, split = _evaluated_on(results)
    if domain is None or results.get("mean_iou") is None:
        return None
    metrics = [("mean_iou", "Mean IoU", results["mean_iou"])]
    if "overall_accuracy" in results:
        metrics.append(("accuracy", "Pixel accuracy", results["overall_accuracy"]))
    return [
        EvalResult(
            task_type="image-segmentation",
            dataset_type=domain,
            dataset_name=domain,
            dataset_split=split,
            metric_type=metric,
            metric_name=title,
            metric_value=round(value, 4),
        )
        for metric, title, value in metrics
    ]


def _evaluated_on(results: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """Return the domain and the split of the scores, which a run notes as `DOMAIN (SPLIT)`."""
    domain, _, split = (results.get("eval") or "").removesuffix(")").partition(" (")
    return _public(domain or None), split or None


def _ious(results: Mapping[str, Any], labels: Sequence[str]) -> dict[str, str]:
    """Return the IoU by class in percent, in the order of the labels; a dash for those that the mean leaves out."""
    ious = results.get("per_class_iou") or {}
    averaged = results.get("eval_classes") or ious
    return {label: _percent(ious[label] if label in averaged else None) for label in labels if label in ious}


def _title(network: str, recipe: str | None, source: str | None, target: str | None) -> str:
    if recipe is None or source is None:
        return f"{network} for semantic segmentation"
    if recipe == "source_only" or target is None:
        return f"{network} trained on {source}"
    return f"{network} adapted from {source} to {target}"


def _loading(name: str, needs_code: bool, carries_code: bool) -> str:
    """Return the code that loads the model. SegFormer needs nothing but `transformers`."""
    trust = ", trust_remote_code=True" if needs_code and carries_code else ""
    ours = needs_code and not carries_code
    lines = [
        *(["import mfm_hf  # tells transformers about this network", ""] if ours else []),
        "from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation",
        "",
        f'processor = AutoImageProcessor.from_pretrained("{name}")',
        f'model = AutoModelForSemanticSegmentation.from_pretrained("{name}"{trust})',
    ]
    return "\n".join(lines)


def _training(results: Mapping[str, Any], weights: StartingWeights) -> dict[str, str]:
    """Return the facts of the training, by their titles."""
    facts = {
        "Encoder": weights.encoder,
        "Started from": weights.start,
        "Steps": _steps(results),
        "Seed": str(results["seed"]) if "seed" in results else None,
        "Hardware": results.get("hardware"),
        "Processes": results.get("num_processes") if "hardware" not in results else None,
        "Seconds per step": results.get("seconds_per_step"),
        "Time, without evaluations": _time(results),
        "Parameters in training": results.get("parameters_in_training"),
        "Parameters here": results.get("parameters_exported"),
    }
    return {title: _fact(value) for title, value in facts.items() if value is not None}


def _steps(results: Mapping[str, Any]) -> str | None:
    """Return the number of steps, and of how many if the network is not that of the last one."""
    steps, max_steps = results.get("steps"), results.get("max_steps")
    if steps is None:
        return None
    return f"{steps:,}" if max_steps in (None, steps) else f"{steps:,} of {max_steps:,}"


def _time(results: Mapping[str, Any]) -> str | None:
    if not results.get("steps") or not results.get("seconds_per_step"):
        return None
    seconds = results["steps"] * results["seconds_per_step"]
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def _fact(value: str | int | float) -> str:
    """Write a fact: numbers with three digits, or with their thousands apart."""
    if isinstance(value, str):
        return value
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}"


def _recipe(results: Mapping[str, Any]) -> str:
    """Return the recipe as it was resolved, as YAML, without what the card says elsewhere."""
    resolved: Mapping[str, Any] = results.get("resolved_recipe") or {}
    elsewhere = ("name", "notes", "max_steps")
    return _yaml({name: value for name, value in resolved.items() if name not in elsewhere and value is not None})


def _arguments(changed: Mapping[str, Any], with_mfm: bool) -> str:
    """Return the arguments that shape the recipe and are not at their default, as YAML."""
    idle = () if with_mfm else ("mfm_", "rebuilder")
    shaping = {name: value for name, value in changed.items() if name not in _NO_RECIPE and not name.startswith(idle)}
    return _yaml(shaping)


def _yaml(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(content), sort_keys=False, default_flow_style=None).strip() if content else ""


def _public(name: str | None) -> str | None:
    return None if name is None else public_name(name)


def _percent(share: float | None) -> str:
    """Write a share in percent; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.2f}"
