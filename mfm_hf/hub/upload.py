"""A repository on the Hub: made if need be, filled by single commits, with patience for what passes by itself."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Literal, TypeVar

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, RepoUrl

# The HTTP library changed its name between versions 1 and 2 of huggingface_hub; this name of its error did not.
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, HTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import validate_repo_id

logger = logging.getLogger(__name__)

T = TypeVar("T")

RepoType = Literal["model", "space", "dataset"]

RETRY_WAITS = (1.0, 4.0, 16.0)
"""Seconds to wait before each further attempt after an error that may pass by itself."""

_HOW_TO_MEND = {
    401: "the Hub does not know you: log in with `hf auth login`, or set HF_TOKEN to a token with write access",
    403: "your token may not write there: use one with write access, or another name",
    404: "there is no such user, organisation or repository for you: check the name and your login",
    409: "something else is changing the repository: publish again",
    429: "the Hub has had too many requests from you: publish again in a few minutes",
}


class PublishError(OSError):
    """The Hub did not take what was to be published. The message says how to mend it; local files are unharmed.

    Args:
        message: What went wrong, in one line.
        may_pass: Whether the same request may succeed later, though nothing was mended.
    """

    def __init__(self, message: str, may_pass: bool = False) -> None:
        super().__init__(message)
        self.may_pass = may_pass


class HubRepository:
    """A repository of the Hub to write to.

    Args:
        repo_id: `ORG/NAME`. `NAME` alone is one of your own.
        content: What is to be published, as messages name it: a folder, say.
        repo_type: What kind of repository it is. A Space is one of Gradio.
        token: Of the Hub. Default: `HF_TOKEN`, or that of `hf auth login`.
        retry_waits: Seconds to wait before each further attempt after an error that may pass by itself: too many
            requests, an error of the server, a cut connection.

    Raises:
        ValueError: If the name cannot be one.
    """

    def __init__(
        self,
        repo_id: str,
        content: Path | str,
        repo_type: RepoType = "model",
        token: str | None = None,
        retry_waits: Sequence[float] = RETRY_WAITS,
    ) -> None:
        try:
            validate_repo_id(repo_id)
        except HFValidationError:
            raise ValueError(
                f"{repo_id!r} cannot be the name of a repository: write ORG/NAME, with letters, digits, - _ and ."
            ) from None
        self.repo_id = repo_id
        self.content = content
        self.repo_type = repo_type
        self.retry_waits = retry_waits
        self._api = HfApi(token=token)

    def finds_model(self, repo_id: str) -> bool:
        """Return whether the Hub has a model of this name, and lets you see it.

        Raises:
            PublishError: If the Hub cannot be reached.
        """
        try:
            validate_repo_id(repo_id)
        except HFValidationError:
            return False
        return self._attempt(lambda: self._api.repo_exists(repo_id))

    def create(self, private: bool = False) -> RepoUrl:
        """Make the repository, or find it made.

        Args:
            private: Whether only you and your organisation may see it.

        Returns:
            Its address; its `repo_id` names the owner, too.

        Raises:
            PublishError: If the Hub cannot be reached or refuses, or the repository exists and is not private.
        """
        url = self._attempt(lambda: self._create(private))
        self.repo_id = url.repo_id
        return url

    def commit(self, files: Mapping[str, Path | bytes], replaced: Sequence[str], message: str) -> None:
        """Upload the files and remove what they replace, all at once: nobody finds new shards under an old index.

        What the Hub has already is not sent again. (`HfApi.upload_folder` may spread its work over several commits.)

        Args:
            files: What to upload, a file or its content, by its path in the repository.
            replaced: Patterns, as of `fnmatch`, of older files that go unless they are among the new ones.
            message: Title of the commit.

        Raises:
            PublishError: If the Hub cannot be reached or does not take the files.
        """
        self._attempt(lambda: self._commit(files, replaced, message))

    def _create(self, private: bool) -> RepoUrl:
        url = self._api.create_repo(
            self.repo_id,
            repo_type=self.repo_type,
            space_sdk="gradio" if self.repo_type == "space" else None,
            private=private or None,
            exist_ok=True,
        )
        if private and not self._api.repo_info(url.repo_id, repo_type=self.repo_type).private:
            raise PublishError(
                f"{url.repo_id} exists and is public: make it private in its settings, or choose another"
            )
        return url

    def _commit(self, files: Mapping[str, Path | bytes], replaced: Sequence[str], message: str) -> None:
        there = self._api.list_repo_files(self.repo_id, repo_type=self.repo_type)
        old = [path for path in there if path not in files and any(fnmatch(path, name) for name in replaced)]
        additions = [CommitOperationAdd(path_in_repo=path, path_or_fileobj=file) for path, file in files.items()]
        deletions = [CommitOperationDelete(path_in_repo=path, is_folder=False) for path in old]
        self._api.create_commit(
            self.repo_id,
            operations=[*additions, *deletions],
            commit_message=message,
            repo_type=self.repo_type,
        )

    def _attempt(self, request: Callable[[], T]) -> T:
        """Return what the request returns, trying again while its error may pass by itself."""
        remaining = iter(self.retry_waits)
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
                    explanation = f"cannot publish {self.content} as {self.repo_id}: {_explain(cause)}"
                    raise PublishError(f"{explanation}; what lies here is unharmed", _may_pass(cause)) from error
                logger.warning("publishing %s: %s; trying again in %g s", self.repo_id, _explain(cause), wait)
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
