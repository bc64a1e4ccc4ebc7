"""Publish a checkpoint folder on the Hub: what inference needs, and nothing else of a run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub.constants import SAFETENSORS_INDEX_FILE, SAFETENSORS_SINGLE_FILE
from safetensors import SafetensorError, safe_open

from mfm_hf.hub.baseline import read_baseline
from mfm_hf.hub.model_card import CARD_FILE, CONFIG_FILE, RESULTS_FILE, read_json, write_model_card
from mfm_hf.hub.public_results import public_results
from mfm_hf.hub.remote_code import all_code_names, code_files, with_auto_map
from mfm_hf.hub.upload import RETRY_WAITS, HubRepository

# What travels beside the weights, where it is there.
_COMPANIONS = (CONFIG_FILE, "preprocessor_config.json", CARD_FILE, "LICENSE")
# What an older upload may have left that would not belong to the new weights.
_REPLACED = ("model*.safetensors", SAFETENSORS_INDEX_FILE, RESULTS_FILE)


def publish(
    folder: Path,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    commit_message: str = "Upload checkpoint",
    baseline_results: Path | None = None,
    retry_waits: Sequence[float] = RETRY_WAITS,
) -> str:
    """Upload the inference files of a checkpoint folder, with a model card, in a single commit.

    It may be repeated: what the Hub has already is not sent again, and shards of an older upload are removed. Weights,
    config, image processor, card, results and licence travel, and the code of a network that `transformers` does not
    know; training checkpoints, logs and arguments do not. The results travel without paths of this machine.

    Args:
        folder: Where the final checkpoint of a training or a conversion lies.
        repo_id: `ORG/NAME`; it is made if need be. `NAME` alone is one of your own.
        private: Whether only you and your organisation may see it.
        token: Of the Hub. Default: `HF_TOKEN`, or that of `hf auth login`.
        commit_message: Title of the commit.
        baseline_results: The `results.json` of a source-only training, which the card then compares with.
        retry_waits: Seconds to wait before each further attempt after an error that may pass by itself: too many
            requests, an error of the server, a cut connection.

    Returns:
        Address of the repository.

    Raises:
        FileNotFoundError: If the folder is no whole checkpoint.
        ValueError: If the name cannot be one, the weights are damaged or hold what only training needs, or the
            baseline cannot be compared with.
        PublishError: If the Hub cannot be reached or does not take the files.
    """
    checkpoint_files(folder)  # refuses what is no checkpoint before anything is made
    results = read_json(folder / RESULTS_FILE)
    baseline = None if baseline_results is None else read_baseline(baseline_results, results)
    repository = HubRepository(repo_id, folder, token=token, retry_waits=retry_waits)
    url = repository.create(private)
    write_model_card(folder, url.repo_id, baseline)
    repository.commit(_repository_files(folder), (*_REPLACED, *all_code_names()), commit_message)
    return url.url


def checkpoint_files(folder: Path) -> dict[str, Path | bytes]:
    """Return what travels of a checkpoint folder, a file or its content, by name.

    Raises:
        FileNotFoundError, ValueError: As `weight_files` does, and if `results.json` is damaged.
    """
    companions = (folder / name for name in _COMPANIONS)
    files: dict[str, Path | bytes] = {file.name: file for file in weight_files(folder)}
    files.update({file.name: file for file in companions if file.is_file()})
    if results := read_json(folder / RESULTS_FILE):
        files[RESULTS_FILE] = _json_bytes(public_results(results))
    return files


def _repository_files(folder: Path) -> dict[str, Path | bytes]:
    """Return what a repository holds: the files of a checkpoint, and the code that it needs."""
    config = read_json(folder / CONFIG_FILE)
    code = code_files(config["model_type"])
    named = {CONFIG_FILE: _json_bytes(with_auto_map(config))} if code else {}
    return {**checkpoint_files(folder), **named, **code}


def _json_bytes(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def weight_files(folder: Path) -> list[Path]:
    """Return the files that `from_pretrained` would read the weights of a checkpoint folder from.

    Raises:
        FileNotFoundError: If the folder is no whole checkpoint.
        ValueError: If a file is damaged, or holds weights that only training needs.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise FileNotFoundError(f"{folder} holds no {CONFIG_FILE}: give the output folder of a training or conversion")
    single, index = folder / SAFETENSORS_SINGLE_FILE, folder / SAFETENSORS_INDEX_FILE
    if single.is_file():
        files, shards = [single], [single]
    elif index.is_file():
        names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
        shards = [folder / name for name in sorted(set(names))]
        files = [index, *shards]
    else:
        raise FileNotFoundError(f"{folder} holds no {single.name}: give the output folder of a training or conversion")
    for shard in shards:
        _check_weights(shard)
    return files


def _check_weights(file: Path) -> None:
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing, but {SAFETENSORS_INDEX_FILE} names it: save the checkpoint again")
    try:
        with safe_open(file, framework="numpy") as tensors:
            names = list(tensors.keys())
    except SafetensorError as error:
        raise ValueError(f"{file} is damaged ({error}): save the checkpoint again") from error
    if any(name.startswith("rebuilder.") for name in names):
        raise ValueError(f"{file} holds a Rebuilder, which only training needs: save the model with save_pretrained")
