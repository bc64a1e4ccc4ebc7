"""The model card of a checkpoint folder, made of the files in it. What was not measured or noted is left out."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from mfm_hf.hub.encoders import HUB_IDS, default_encoder

CARD_FILE = "README.md"
# Stands in a card of ours, which may be written anew; a card without it is the user's own.
MARKER = "<!-- Written by mfm_hf from the results of the run. Remove this line to keep changes of your own. -->"

_TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
_NETWORKS = {"segformer": "SegFormer", "daformer": "DAFormer", "deeplabv2": "DeepLab-V2", "hrda": "HRDA"}
_METHODS = {"dacs": "DACS ([arXiv 2007.08702](https://arxiv.org/abs/2007.08702))"}
_SEGFORMER_LICENSE = "https://github.com/NVlabs/SegFormer/blob/master/LICENSE"

# Where a run's files lie, how it was watched, or what the card says elsewhere: nothing that changes the network.
_NO_RECIPE = (
    "source", "target", "eval", "recipe", "mfm", "model", "backbone", "pretrained_backbone", "model_name_or_path",
    "seed", "max_steps", "output_dir", "overwrite_output_dir", "resume_from_checkpoint", "save_steps",
    "save_total_limit", "eval_steps", "per_device_eval_batch_size", "logging_steps", "dataloader_num_workers",
    "use_cpu", "report_to", "push_to_hub", "hub_model_id", "final_evaluation", "picture_steps", "log_gradient_norms",
)  # fmt: skip


def write_model_card(folder: Path, repo_id: str | None = None) -> Path:
    """Write the model card of a checkpoint folder as README.md, whole or not at all.

    A README.md that does not hold `MARKER` is the user's own and stays as it is.

    Args:
        folder: A checkpoint folder.
        repo_id: As in `render_model_card`.

    Returns:
        The file.

    Raises:
        FileNotFoundError, ValueError: As `render_model_card` does.
    """
    file = folder / CARD_FILE
    if file.is_file() and MARKER not in file.read_text(encoding="utf-8"):
        return file
    unfinished = file.with_name(f".{file.name}.tmp")
    unfinished.write_text(render_model_card(folder, repo_id), encoding="utf-8")
    unfinished.replace(file)
    return file


def render_model_card(folder: Path, repo_id: str | None = None) -> str:
    """Return the card as Markdown with the Hub's metadata.

    Args:
        folder: Holds config.json, and results.json and training_args.json where the run wrote them.
        repo_id: `ORG/NAME`, by which the card tells how to load the model. Default: the name of the folder.

    Raises:
        FileNotFoundError: If there is no config.json.
        ValueError: If one of the files is damaged.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no config.json: give the output folder of a training or conversion")
    config, results, args = (_read(folder / name) for name in ("config.json", "results.json", "training_args.json"))
    name = repo_id or folder.resolve().name
    source, target = (_public(results.get(role) or args.get(role)) for role in ("source", "target"))
    network = _NETWORKS.get(config["model_type"], config["model_type"])
    base_model = _base_model(args)
    noncommercial = base_model is not None and base_model.startswith("nvidia/")
    recipe, mfm = results.get("recipe"), results.get("mfm", False)
    evaluated_on, split = _evaluated_on(results)
    card = ModelCard.from_template(
        _metadata(name, results, base_model, noncommercial),
        template_path=str(_TEMPLATE),
        marker=MARKER,
        title=_title(network, recipe, source, target),
        network=network,
        labels=[config["id2label"][key] for key in sorted(config["id2label"], key=int)],
        recipe=recipe,
        recipe_title=_METHODS.get(str(recipe), f"the recipe `{recipe}`"),
        mfm=mfm,
        source=source,
        target=target,
        loading=_loading(name, config["model_type"]),
        ious={label: _percent(iou) for label, iou in (results.get("per_class_iou") or {}).items()},
        mean_iou=_percent(results.get("mean_iou")),
        evaluated_on=evaluated_on,
        split=split,
        num_images=results.get("num_images"),
        training=_training(results, args),
        arguments=_arguments(results.get("arguments", {}), with_mfm=results.get("mfm", False)),
        base_model=base_model,
        noncommercial=noncommercial,
        license_link=_SEGFORMER_LICENSE,
    )
    return str(card)


def _read(file: Path) -> dict[str, Any]:
    """Return what a JSON file holds; nothing where there is no such file."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{file} is damaged ({error}): delete it, or write it again") from error


def _metadata(name: str, results: Mapping[str, Any], base_model: str | None, noncommercial: bool) -> ModelCardData:
    tags = ["semantic-segmentation", "unsupervised-domain-adaptation", "mfm_hf"]
    tags += [results["recipe"].replace("_", "-")] if "recipe" in results else []
    tags += ["masked-feature-modeling"] if results.get("mfm") else []
    return ModelCardData(
        library_name="transformers",
        pipeline_tag="image-segmentation",
        tags=tags,
        base_model=base_model,
        license="other" if noncommercial else None,
        license_name="nvidia-source-code-license" if noncommercial else None,
        license_link=_SEGFORMER_LICENSE if noncommercial else None,
        model_name=name.rpartition("/")[2],
        eval_results=_eval_results(results),
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


def _title(network: str, recipe: str | None, source: str | None, target: str | None) -> str:
    if recipe is None or source is None:
        return f"{network} for semantic segmentation"
    if recipe == "source_only" or target is None:
        return f"{network} trained on {source}"
    return f"{network} adapted from {source} to {target}"


def _loading(name: str, model_type: str) -> str:
    """Return the code that loads the model. SegFormer needs nothing but `transformers`."""
    ours = model_type != "segformer"
    lines = [
        *(["import mfm_hf  # tells transformers about this network", ""] if ours else []),
        "from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation",
        "",
        f'processor = AutoImageProcessor.from_pretrained("{name}")',
        f'model = AutoModelForSemanticSegmentation.from_pretrained("{name}")',
    ]
    return "\n".join(lines)


def _encoder(args: Mapping[str, Any]) -> str | None:
    """Return the name of the encoder that a network was built over; None if it came with a whole checkpoint."""
    if "model" not in args or args["model_name_or_path"] is not None:
        return None
    return args["backbone"] or default_encoder(args["model"], args["hrda_base"])


def _start(args: Mapping[str, Any]) -> str | None:
    """Return the Hub id or folder of the weights that training started from; None if from scratch or not known."""
    encoder = _encoder(args)
    if encoder is None:
        return args.get("model_name_or_path")
    is_trained = args["pretrained_backbone"] and encoder != "tiny"
    return HUB_IDS.get(encoder, encoder) if is_trained else None


def _base_model(args: Mapping[str, Any]) -> str | None:
    """Return the Hub id of the weights that training started from, if they are known ones.

    Of any other `ORG/NAME` nobody can tell whether it was a folder on the machine of the run.
    """
    start = _start(args)
    is_known = start is not None and (start in HUB_IDS.values() or start.startswith("nvidia/segformer-"))
    return start if is_known else None


def _training(results: Mapping[str, Any], args: Mapping[str, Any]) -> dict[str, str]:
    """Return the facts of the training, by their titles."""
    facts = {
        "Encoder": _public(_encoder(args)),
        "Started from": _public(_start(args)),
        "Steps": results.get("steps"),
        "Seed": str(results["seed"]) if "seed" in results else None,
        "Processes": results.get("num_processes"),
        "Seconds per step": results.get("seconds_per_step"),
        "Parameters in training": results.get("parameters_in_training"),
        "Parameters here": results.get("parameters_exported"),
    }
    return {title: _fact(value) for title, value in facts.items() if value is not None}


def _fact(value: str | int | float) -> str:
    """Write a fact: numbers with three digits, or with their thousands apart."""
    if isinstance(value, str):
        return value
    return f"{value:.3g}" if isinstance(value, float) else f"{value:,}"


def _arguments(changed: Mapping[str, Any], with_mfm: bool) -> str:
    """Return the arguments that shape the recipe and are not at their default, as YAML."""
    idle = () if with_mfm else ("mfm_", "rebuilder")
    shaping = {name: value for name, value in changed.items() if name not in _NO_RECIPE and not name.startswith(idle)}
    return yaml.safe_dump(shaping, sort_keys=False, default_flow_style=None).strip() if shaping else ""


def _public(name: str | None) -> str | None:
    """Return a domain or checkpoint as others may read it: of a path on this machine its last part."""
    return Path(name).name if name is not None and os.path.isabs(name) else name


def _percent(share: float | None) -> str:
    """Write a share in percent; a dash where there is none."""
    return "–" if share is None else f"{100 * share:.2f}"
