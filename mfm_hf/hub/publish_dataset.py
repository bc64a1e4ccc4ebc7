"""Publish a prepared dataset on the Hub, where only its owner sees it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mfm_hf.data.dataset_card import CARD_FILE
from mfm_hf.data.manifest import MANIFEST_FILE, Manifest
from mfm_hf.hub.public_results import public_name
from mfm_hf.hub.upload import RETRY_WAITS, HubRepository


def publish_dataset(
    directory: Path, repo_id: str, *, token: str | None = None, retry_waits: Sequence[float] = RETRY_WAITS
) -> str:
    """Upload a prepared dataset to a private repository, in a single commit.

    It may be repeated: what the Hub has already is not sent again, and shards of an older upload are removed. Whether
    others may see it is for the licence of the images to say, and for their owner to set on the Hub.

    Args:
        directory: Its folder.
        repo_id: `ORG/NAME`; it is made if need be. `NAME` alone is one of your own.
        token: Of the Hub. Default: `HF_TOKEN`, or that of `hf auth login`.
        retry_waits: Seconds to wait before each further attempt after an error that may pass by itself.

    Returns:
        Address of the repository.

    Raises:
        FileNotFoundError: The folder holds no prepared dataset, or not all of it.
        ValueError: The name cannot be one.
        PublishError: The Hub cannot be reached or does not take the files, or the repository is public.
    """
    manifest_file = directory / MANIFEST_FILE
    if not manifest_file.is_file():
        raise FileNotFoundError(f"{directory} holds no {MANIFEST_FILE}: give the folder of a prepared dataset")
    manifest = Manifest.from_json(manifest_file.read_bytes(), str(manifest_file))
    names = [CARD_FILE]
    for split in manifest.splits.values():
        names += [shard.file for shard in split.shards]
        names += [split.class_pixels.file] if split.class_pixels is not None else []
    missing = [name for name in names if not (directory / name).is_file()]
    if missing:
        raise FileNotFoundError(f"{directory} lacks {missing[0]}: prepare it again")
    repository = HubRepository(repo_id, directory, "dataset", token, retry_waits)
    url = repository.create(private=True)
    files: dict[str, Path | bytes] = {name: directory / name for name in names}
    repository.commit(files | _without_paths(manifest, directory), ("*.parquet", "*.npz"), "Upload prepared dataset")
    return url.url


def _without_paths(manifest: Manifest, directory: Path) -> dict[str, bytes]:
    """Return manifest and card as others may read them, without the places of the raw images on this machine."""
    card = (directory / CARD_FILE).read_text(encoding="utf-8")  # which its owner may have added to
    splits = dict(manifest.splits)
    for name, split in manifest.splits.items():
        domain = split.settings.domain
        splits[name] = replace(split, settings=replace(split.settings, domain=public_name(domain)))
        card = card.replace(f"`{domain}`", f"`{public_name(domain)}`")
    public = json.dumps(replace(manifest, splits=splits).to_json(), indent=2)
    return {MANIFEST_FILE: public.encode(), CARD_FILE: card.encode()}
