"""What a run puts on the Hub: the network as it is on the way, in the background, and the final one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mfm_hf.hub.background import BackgroundUploads
from mfm_hf.hub.baseline import read_baseline
from mfm_hf.hub.publish import publish
from mfm_hf.hub.upload import HubRepository, PublishError
from mfm_hf.uda.training_args import UdaTrainingArguments

PUSH_PREFIX = ".push-"


class Pushes:
    """Publishes the network of a run. Whatever goes wrong on the Hub, the training goes on.

    Args:
        args: `push_to_hub` and the `hub_` options.

    Attributes:
        on_the_way: Whether networks are published before the final one, too.
        repo_id: The repository.
        failures: Of the pushes on the way: `step` and `reason`.

    Raises:
        ValueError: If the repository cannot have this name.
    """

    def __init__(self, args: UdaTrainingArguments) -> None:
        self.args = args
        self.output_dir = Path(args.output_dir)
        self.baseline = None if args.baseline_results is None else Path(args.baseline_results)
        self.on_the_way = args.push_to_hub and args.hub_strategy == "every_save"
        self.repo_id = args.hub_model_id or self.output_dir.resolve().name
        self.failures: list[dict[str, Any]] = []
        self._uploads = BackgroundUploads(self._upload, self._note_failure)
        self._say: Callable[[str], None] = print
        if args.push_to_hub:
            HubRepository(self.repo_id, self.output_dir)  # refuses a bad name

    def check(self, facts: dict[str, Any]) -> None:
        """Make the repository, so that a login or a name that will not do is known before the training.

        Args:
            facts: What is known of the results already, which the baseline has to agree with.

        Raises:
            ValueError, FileNotFoundError: If the baseline cannot be compared with.
            PublishError: If the Hub refuses. That it cannot be reached just now is only warned of.
        """
        if self.baseline is not None:
            read_baseline(self.baseline, facts)
        if not self.args.push_to_hub:
            return
        try:
            HubRepository(self.repo_id, self.output_dir).create(self.args.hub_private_repo)
        except PublishError as error:
            if not error.may_pass:
                raise
            self._say(f"warning: {error}; the training goes on")

    def push_snapshot(self, step: int, write: Callable[[Path], None], say: Callable[[str], None]) -> None:
        """Let `write` fill a folder, and publish it while the training goes on; a newer one takes its place.

        Args:
            step: Of the training.
            write: Writes the checkpoint.
            say: Told, in another thread, of a push that failed.

        Raises:
            OSError, SafetensorError: If the folder cannot be written.
        """
        self._say = say
        folder = Path(tempfile.mkdtemp(dir=self.output_dir, prefix=f"{PUSH_PREFIX}{step}-"))
        try:
            write(folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        self._uploads.submit(folder)

    def finish(self) -> None:
        """Wait for the push under way; one that has not begun is dropped, since the final network follows."""
        self._uploads.finish()

    def push_final(self) -> str:
        """Publish the output folder and return the address of the repository.

        Raises:
            PublishError: If the Hub refuses or cannot be reached.
        """
        self.finish()
        return self._publish(self.output_dir, "Upload checkpoint")

    def _upload(self, folder: Path) -> None:
        self._publish(folder, f"Training at step {_step_of(folder)}")

    def _publish(self, folder: Path, message: str) -> str:
        return publish(
            folder,
            self.repo_id,
            private=self.args.hub_private_repo,
            commit_message=message,
            baseline_results=self.baseline,
        )

    def _note_failure(self, folder: Path, error: Exception) -> None:
        self.failures.append({"step": _step_of(folder), "reason": str(error)})
        self._say(f"warning: the network of step {_step_of(folder)} is not on the Hub ({error}); the training goes on")


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix(PUSH_PREFIX).partition("-")[0])
