"""Publish a checkpoint folder on the Hub: what inference needs, and nothing else of a run."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoUrl
from huggingface_hub.constants import SAFETENSORS_INDEX_FILE, SAFETENSORS_SINGLE_FILE

# The HTTP library changed its name between versions 1 and 2 of huggingface_hub; this name of its error did not.
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id
from safetensors import SafetensorError, safe_open

from mfm_hf.hub.model_card import CARD_FILE, write_model_card

logger = logging.getLogger(__name__)

T = TypeVar("T")

# What travels beside the weights, where it is there.
_COMPANIONS = ("config.json", "preprocessor_config.json", CARD_FILE, "results.json", "LICENSE")
# What an older upload may have left that would not belong to the new weights.
_REPLACED = ("model*.safetensors", SAFETENSORS_INDEX_FILE, "results.json")

_HOW_TO_MEND = {
    401: "the Hub does not know you: log in with `hf auth login`, or set HF_TOKEN to a token with write access",
    403: "your token may not write there: use one with write access, or another name",
    404: "there is no such user, organisation or repository for you: check the name and your login",
    409: "something else is changing the repository: publish again",
    429: "the Hub has had too many requests from you: publish again in a few minutes",
}


class PublishError(OSError):
    """The Hub did not take a checkpoint. The message says how to mend it; the folder is as good as before."""


def publish(
    folder: Path,
    repo_id: str,
    *,
    private: bool = False,
    token: str | None = None,
    commit_message: str = "Upload checkpoint",
    retry_waits: Sequence[float] = (1.0, 4.0, 16.0),
) -> str:
    """Upload the inference files of a checkpoint folder, with a model card, in a single commit.

    It may be repeated: what the Hub has already is not sent again, and shards of an older upload are removed. Weights,
    config, image processor, card, results and licence travel; training checkpoints, logs and arguments do not.

    Args:
        folder: Where the final checkpoint of a training or a conversion lies.
        repo_id: `ORG/NAME`; it is made if need be. `NAME` alone is one of your own.
        private: Whether only you and your organisation may see it.
        token: Of the Hub. Default: `HF_TOKEN`, or that of `hf auth login`.
        commit_message: Title of the commit.
        retry_waits: Seconds to wait before each further attempt after an error that may pass by itself: too many
            requests, an error of the server, a cut connection.

    Returns:
        Address of the repository.

    Raises:
        FileNotFoundError: If the folder is no whole checkpoint.
        ValueError: If the name cannot be one, or the weights are damaged or hold what only training needs.
        PublishError: If the Hub cannot be reached or does not take the files.
    """
    weights = weight_files(folder)
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise ValueError(
            f"{repo_id!r} cannot be the name of a repository: write ORG/NAME, with letters, digits, - _ and ."
        ) from None
    api = HfApi(token=token)
    repo = _try(lambda: _create(api, repo_id, private), folder, repo_id, retry_waits)
    write_model_card(folder, repo.repo_id)
    files = [*weights, *(folder / name for name in _COMPANIONS if (folder / name).is_file())]
    _try(lambda: _commit(api, repo.repo_id, files, commit_message), folder, repo.repo_id, retry_waits)
    return repo.url


def weight_files(folder: Path) -> list[Path]:
    """Return the files that `from_pretrained` would read the weights of a checkpoint folder from.

    Raises:
        FileNotFoundError: If the folder is no whole checkpoint.
        ValueError: If a file is damaged, or holds weights that only training needs.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} holds no config.json: give the output folder of a training or conversion")
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


def _create(api: HfApi, repo_id: str, private: bool) -> RepoUrl:
    """Make the repository, or find it made."""
    repo = api.create_repo(repo_id, private=private or None, exist_ok=True)
    if private and not api.model_info(repo.repo_id).private:
        raise PublishError(f"{repo.repo_id} exists and is public: make it private in its settings, or choose another")
    return repo


def _commit(api: HfApi, repo_id: str, files: Sequence[Path], message: str) -> None:
    """Upload the files and remove what they replace, all at once: nobody finds new shards under an old index.

    `HfApi.upload_folder` may spread its work over several commits.
    """
    names = {file.name for file in files}
    there = [sibling.rfilename for sibling in api.model_info(repo_id).siblings or ()]
    replaced = [path for path in there if path not in names and any(fnmatch(path, name) for name in _REPLACED)]
    additions = [CommitOperationAdd(path_in_repo=file.name, path_or_fileobj=file) for file in files]
    deletions = [CommitOperationDelete(path_in_repo=path, is_folder=False) for path in replaced]
    api.create_commit(repo_id, operations=[*additions, *deletions], commit_message=message)


def _try(request: Callable[[], T], folder: Path, repo_id: str, waits: Sequence[float]) -> T:
    """Return what the request returns, trying again while its error may pass by itself."""
    remaining = iter(waits)
    while True:
        try:
            return request()
        except PublishError:
            raise
        # Uploads fail with RuntimeError, a refused card and an answer that is not JSON with ValueError.
        except (HTTPError, OSError, RuntimeError, ValueError) as error:
            cause = _cause(error)
            wait = next(remaining, None) if _may_pass(cause) else None
            if wait is None:
                explanation = f"cannot publish {folder} as {repo_id}: {_explain(cause)}; the folder is unharmed"
                raise PublishError(explanation) from error
            logger.warning("publishing %s: %s; trying again in %g s", repo_id, _explain(cause), wait)
            time.sleep(wait)


def _cause(error: BaseException) -> BaseException:
    """Return the error of HTTP behind an error, or the error itself."""
    return next((cause for cause in _chain(error) if isinstance(cause, HTTPError)), error)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code == 429 or error.response.status_code >= 500
    return isinstance(error, (HTTPError, RuntimeError, json.JSONDecodeError))


def _explain(error: BaseException) -> str:
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set: unset it"
    if isinstance(error, HfHubHTTPError):
        status = error.response.status_code
        if status >= 500:
            return f"the Hub has a problem of its own (status {status}): publish again later"
        if status in _HOW_TO_MEND:
            return _HOW_TO_MEND[status]
    elif isinstance(error, json.JSONDecodeError):
        return "the answer of the Hub cannot be read: publish again later"
    elif isinstance(error, (HTTPError, RuntimeError)):
        return f"the connection to the Hub failed ({_one_line(error)}): check the network and publish again"
    return _one_line(error)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
