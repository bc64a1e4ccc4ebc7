import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard
from huggingface_hub.repocard_data import model_index_to_eval_results

from mfm_hf.hub.image_processor import save_image_processor
from mfm_hf.hub.model_card import MARKER, render_model_card, write_model_card
from mfm_hf.uda.training_args import UdaTrainingArguments

RESULTS = {
    "mean_iou": 0.54321,
    "overall_accuracy": 0.9,
    "per_class_iou": {"road": 0.91234, "car": 0.17408, "sky": None},
    "num_images": 500,
    "recipe": "dacs",
    "mfm": True,
    "model": "SegformerForSemanticSegmentation",
    "steps": 40_000,
    "seed": 3,
    "seconds_per_step": 0.19170244,
    "parameters_in_training": 910_147,
    "parameters_exported": 348_659,
    "source": "streets:game",
    "target": "streets:real",
    "eval": "streets:real (validation)",
    "num_processes": 1,
    "hardware": "1 x NVIDIA H100",
    "notes": ["feature distance is off, since the encoder is not trained"],
    "resolved_recipe": {
        "name": "dacs",
        "crop_size": [512, 512],
        "patch_size": None,
        "objectives": {"mixed": {"weight": 1.0}},
    },
    "arguments": {"mfm": True, "mfm_grid": [8, 16], "learning_rate": 1e-3, "output_dir": "outputs/streets"},
}
METADATA = {
    "library_name": "transformers",
    "pipeline_tag": "image-segmentation",
    "license": "other",
    "license_name": "nvidia-source-code-license",
    "license_link": "https://github.com/NVlabs/SegFormer/blob/master/LICENSE",
    "base_model": "nvidia/mit-b5",
    "tags": [
        "semantic-segmentation",
        "unsupervised-domain-adaptation",
        "mfm_hf",
        "dacs",
        "masked-feature-modeling",
    ],
    "model-index": [
        {
            "name": "streets",
            "results": [
                {
                    "task": {"type": "image-segmentation"},
                    "dataset": {"name": "streets:real", "type": "streets:real", "split": "validation"},
                    "metrics": [
                        {"type": "mean_iou", "value": 0.5432, "name": "Mean IoU"},
                        {"type": "accuracy", "value": 0.9, "name": "Pixel accuracy"},
                    ],
                }
            ],
        }
    ],
}
TEXT = """\
<!-- Written by mfm_hf from the results of the run. Remove this line to keep changes of your own. -->

# SegFormer adapted from streets:game to streets:real

SegFormer for semantic segmentation into 3 classes, in the format of 🤗 Transformers.

## Method

Adapted from labelled images of `streets:game` to images of `streets:real`, whose labels were not used, by
DACS ([arXiv 2007.08702](https://arxiv.org/abs/2007.08702)). During training a small Rebuilder restored randomly \
masked features before they were decoded: Masked
Feature Modeling ([arXiv 2509.13801](https://arxiv.org/abs/2509.13801), later titled Masked Representation Modeling).
The Rebuilder is not part of this checkpoint, whose network is the same as without it.

Note: feature distance is off, since the encoder is not trained.

## Load

```python
from transformers import AutoImageProcessor, AutoModelForSemanticSegmentation

processor = AutoImageProcessor.from_pretrained("someone/streets")
model = AutoModelForSemanticSegmentation.from_pretrained("someone/streets")
```

`model(**processor(image, return_tensors="pt")).logits` may be at a lower resolution than the image: \
bring them to its size before the argmax.

## Results

On 500 images of `streets:real` (validation split):

| Class | IoU in % |
|---|---:|
| road | 91.23 |
| car | 17.41 |
| sky | – |
| **mean** | **54.32** |

A class with a dash neither occurs nor is predicted, and is left out of the mean.

## Training

- Encoder: mit-b5
- Started from: nvidia/mit-b5
- Steps: 40,000
- Seed: 3
- Hardware: 1 x NVIDIA H100
- Seconds per step: 0.192
- Time, without evaluations: 2.1 h
- Parameters in training: 910,147
- Parameters here: 348,659

The recipe, as resolved for this run:

```yaml
crop_size: [512, 512]
objectives:
  mixed: {weight: 1.0}
```

Arguments of `mfm-hf train`; what is not listed was left at its default, or to the recipe:

```yaml
mfm_grid: [8, 16]
learning_rate: 0.001
```

## Limits

The network knows the classes road, car, sky, and calls every pixel one of them. \
Images unlike those of the domains above may be segmented much worse; measure on your own before you rely on it.

## Licence

Training started from [nvidia/mit-b5](https://huggingface.co/nvidia/mit-b5), whose \
[licence](https://github.com/NVlabs/SegFormer/blob/master/LICENSE) allows non-commercial use only. \
The data that it was trained on may have terms of their own.
"""


def make_folder(
    folder: Path,
    results: dict[str, Any] | None,
    args: UdaTrainingArguments | None = None,
    model_type: str = "segformer",
) -> Path:
    folder.mkdir()
    config = {"model_type": model_type, "id2label": {"0": "road", "1": "car", "2": "sky"}}
    contents = {"config.json": config, "results.json": results, "training_args.json": args and vars(args)}
    for name, content in contents.items():
        if content is not None:
            (folder / name).write_text(json.dumps(content))
    return folder


def body(folder: Path) -> str:
    return ModelCard(render_model_card(folder)).text


def test_whole_card_of_a_run(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "run", RESULTS, UdaTrainingArguments(mfm=True, mfm_grid=[8, 16]))
    metadata, text = re.fullmatch(
        "---\n(.*?)\n---\n(.*)", render_model_card(folder, "someone/streets"), re.DOTALL
    ).groups()
    assert yaml.safe_load(metadata) == METADATA
    assert text.strip() == TEXT.strip()


def test_metadata_is_read_back_by_the_hub_s_own_library(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "run", RESULTS)
    metadata = ModelCard(render_model_card(folder)).data
    assert metadata.model_name == "run"
    assert metadata.license is None
    assert model_index_to_eval_results(metadata.to_dict()["model-index"]) == ("run", metadata.eval_results)
    mean_iou, accuracy = metadata.eval_results
    assert (mean_iou.metric_value, accuracy.metric_value) == (0.5432, 0.9)
    assert (mean_iou.dataset_name, mean_iou.dataset_split) == ("streets:real", "validation")


@pytest.mark.parametrize("results", [None, RESULTS | {"mean_iou": None, "per_class_iou": None, "eval": None}])
def test_what_was_not_measured_is_left_out(results: dict[str, Any] | None, tmp_path: Path) -> None:
    card = render_model_card(make_folder(tmp_path / "run", results))
    assert "model-index" not in card
    assert "IoU" not in card
    assert "None" not in card
    assert ("## Method" in card) == (results is not None)


def test_size_of_the_images_and_classes_of_the_mean_are_told(tmp_path: Path) -> None:
    left_out, *averaged = RESULTS["per_class_iou"]
    folder = make_folder(tmp_path / "run", RESULTS | {"eval_classes": averaged})
    save_image_processor(folder, (1024, 512))
    card = render_model_card(folder)
    assert "fits images into 1024 x 512 pixels, the size of training" in card
    assert f"| {left_out} | – |" in card
    assert f"is none of the {len(averaged)} classes that were chosen for the mean" in card


def test_classes_stand_in_the_order_of_the_labels(tmp_path: Path) -> None:
    ious = dict(reversed(RESULTS["per_class_iou"].items()))
    table = body(make_folder(tmp_path / "run", RESULTS | {"per_class_iou": ious}))
    assert table.index("| road |") < table.index("| car |") < table.index("| sky |")


def test_baseline_stands_beside_the_results(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "run", RESULTS)
    ious = {"road": 0.5, "car": 0.25, "sky": None}
    baseline = {"mean_iou": 0.375, "per_class_iou": ious, "steps": 20_000, "seed": 7}
    card = render_model_card(folder, baseline=baseline)
    assert "| Class | IoU in % | Source only |\n|---|---:|---:|\n| road | 91.23 | 50.00 |" in card
    assert "| **mean** | **54.32** | 37.50 |" in card
    assert "(20,000 steps, seed 7)" in card


def test_network_of_an_unfinished_training_says_so(tmp_path: Path) -> None:
    assert "- Steps: 40,000 of 80,000\n" in body(make_folder(tmp_path / "run", RESULTS | {"max_steps": 80_000}))


@pytest.mark.parametrize(
    ("recipe", "paper"),
    [("dacs", "2007.08702"), ("daformer", "2111.14887"), ("hrda", "2204.13132"), ("mic", "2212.01322")],
)
def test_paper_of_the_method_is_named(recipe: str, paper: str, tmp_path: Path) -> None:
    assert f"(https://arxiv.org/abs/{paper})" in body(make_folder(tmp_path / "run", RESULTS | {"recipe": recipe}))


@pytest.mark.parametrize(
    ("model_type", "repo_id", "trusts", "imports"),
    [
        ("segformer", "lab/x", False, False),
        ("daformer", "lab/x", True, False),
        ("hrda", "lab/x", True, False),
        ("deeplabv2", None, False, True),  # a folder, in which there is no code
    ],
)
def test_how_to_load(model_type: str, repo_id: str | None, trusts: bool, imports: bool, tmp_path: Path) -> None:
    card = render_model_card(make_folder(tmp_path / "run", RESULTS, model_type=model_type), repo_id)
    code = re.search("```python\n(.*?)```", card, re.DOTALL)[1]
    assert ("trust_remote_code=True" in code) == trusts
    assert ("import mfm_hf" in code) == imports
    assert ("its code lies in this repository" in card) == trusts


@pytest.mark.parametrize(
    ("encoder", "noncommercial"), [("mit-b5", True), ("resnet-101", False), ("an encoder of depths [1]", False)]
)
def test_converted_checkpoints_are_described_as_such(encoder: str, noncommercial: bool, tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "run", None, model_type="daformer")
    origin = {"file": "latest.pth", "weights": "teacher", "encoder": encoder}
    (folder / "conversion.json").write_text(json.dumps(origin))
    text = body(folder)
    assert "Converted by `mfm-hf convert` from `latest.pth`" in text
    assert "of which it is the mean teacher" in text
    assert "for its authors to say" in text
    assert ("allows non-commercial use only" in text) == noncommercial
    assert "## Training" not in text


def test_source_only_does_not_claim_adaptation_or_mfm(tmp_path: Path) -> None:
    args = UdaTrainingArguments(recipe="source_only", backbone="tiny")
    folder = make_folder(tmp_path / "run", RESULTS | {"recipe": "source_only", "mfm": False}, args)
    text = body(folder)
    assert "# SegFormer trained on streets:game\n" in text
    assert "without adaptation: a baseline for `streets:real`" in text
    assert "2509.13801" not in text
    assert "mfm_" not in text.replace(MARKER, "")
    assert "Encoder: tiny" in text
    assert "Started from" not in text
    assert "Licence" not in text


def test_paths_of_the_machine_are_not_published(tmp_path: Path) -> None:
    private = tmp_path / "home"
    args = UdaTrainingArguments(source=str(private / "game"), model_name_or_path=str(private / "start"))
    results = RESULTS | {"source": str(private / "game"), "eval": f"{private / 'city'} (validation)"}
    card = render_model_card(make_folder(tmp_path / "run", results, args))
    assert str(private) not in card
    assert "from game to" in card
    assert "Started from: start" in card
    assert "On 500 images of `city` (validation split)" in card


@pytest.mark.parametrize(
    ("args", "base_model", "license"),
    [
        (UdaTrainingArguments(backbone="mit-b0"), "nvidia/mit-b0", "other"),
        (UdaTrainingArguments(model="deeplabv2"), "microsoft/resnet-101", None),
        (UdaTrainingArguments(model="hrda", hrda_base="deeplabv2"), "microsoft/resnet-101", None),
        (UdaTrainingArguments(model_name_or_path="nvidia/segformer-b0"), "nvidia/segformer-b0", "other"),
        (UdaTrainingArguments(model_name_or_path="outputs/source_only"), None, None),
        (UdaTrainingArguments(pretrained_backbone=False), None, None),
    ],
)
def test_start_and_its_licence(
    args: UdaTrainingArguments, base_model: str | None, license: str | None, tmp_path: Path
) -> None:
    card = ModelCard(render_model_card(make_folder(tmp_path / "run", RESULTS, args)))
    assert (card.data.base_model, card.data.license) == (base_model, license)
    assert ("allows non-commercial use only" in card.text) == (license == "other")
    assert ("under the [Apache License 2.0]" in card.text) == (base_model == "microsoft/resnet-101")


def test_licence_follows_a_chain_of_trainings(tmp_path: Path) -> None:
    first = make_folder(tmp_path / "first", RESULTS, UdaTrainingArguments(backbone="mit-b5", model="daformer"))
    second = make_folder(tmp_path / "second", RESULTS, UdaTrainingArguments(model_name_or_path=str(first)))
    third = make_folder(tmp_path / "third", RESULTS, UdaTrainingArguments(model_name_or_path=str(second)))
    card = ModelCard(render_model_card(third))
    assert (card.data.base_model, card.data.license) == ("nvidia/mit-b5", "other")
    assert "- Started from: second\n" in card.text
    loop = UdaTrainingArguments(model_name_or_path=str(third))
    (first / "training_args.json").write_text(json.dumps(vars(loop)))
    assert ModelCard(render_model_card(third)).data.base_model is None


def test_written_card_is_renewed_until_the_user_makes_it_his_own(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "run", RESULTS)
    file = write_model_card(folder)
    assert file == folder / "README.md"
    (folder / "results.json").write_text(json.dumps(RESULTS | {"mean_iou": 0.25}))
    write_model_card(folder)
    assert "**25.00**" in file.read_text()

    file.write_text("# My own words\n")
    write_model_card(folder)
    assert file.read_text() == "# My own words\n"
    assert {path.name for path in folder.iterdir()} == {"config.json", "results.json", "README.md"}


def test_bad_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no config\.json"):
        render_model_card(tmp_path)
    folder = make_folder(tmp_path / "run", RESULTS)
    (folder / "results.json").write_text("{")
    with pytest.raises(ValueError, match=r"results\.json is damaged"):
        write_model_card(folder)
    assert not (folder / "README.md").exists()
