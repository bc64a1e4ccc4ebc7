"""Publish the demo application as a Space: the page, this package, and the checkpoints that it shows."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from huggingface_hub import SpaceCardData

from mfm_hf.hub.model_card import CARD_FILE, render_model_card
from mfm_hf.hub.publish import checkpoint_files
from mfm_hf.hub.upload import RETRY_WAITS, HubRepository

_PACKAGE = Path(__file__).parents[1]
_PACKAGE_SUFFIXES = (".py", ".css", ".jinja", ".yaml")
# What an older Space may have left.
_REPLACED = ("checkpoints/*", f"{_PACKAGE.name}/*")

_APP = '''\
"""The page that `mfm-hf demo_app` serves, as a Space."""

from mfm_hf.commands.demo_app import serve_space

serve_space({model!r}, {compare!r}, {examples!r})
'''

_README = """\
---
{card_data}
---

# {title}

Drop an image, and see the classes that the networks find in it. `mfm-hf demo_app` has made this Space: `mfm_hf` is the
package, and `checkpoints` holds the networks that came with it.
"""


def push_space(
    repo_id: str,
    model: str,
    compare: str | None = None,
    examples: str = "streets:real#validation",
    *,
    private: bool = False,
    token: str | None = None,
    retry_waits: Sequence[float] = RETRY_WAITS,
) -> str:
    """Publish the page with its checkpoints as a Space, in a single commit. It may be repeated.

    Checkpoint folders travel into the Space, their inference files alone; those on the Hub are named there.

    Args:
        repo_id: `ORG/NAME`; it is made if need be. `NAME` alone is one of your own.
        model: Checkpoint folder or Hub id.
        compare: The same, to compare with.
        examples: A built-in domain, whose images the page offers.
        private: Whether only you and your organisation may see it.
        token: Of the Hub. Default: `HF_TOKEN`, or that of `hf auth login`.
        retry_waits: Seconds to wait before each further attempt after an error that may pass by itself.

    Returns:
        Address of the Space.

    Raises:
        FileNotFoundError: If a folder is no whole checkpoint.
        ValueError: If a name cannot be one, or the examples are files of this machine.
        PublishError: If the Hub cannot be reached or does not take the files.
    """
    repository = HubRepository(repo_id, model, "space", token=token, retry_waits=retry_waits)
    files = space_files(repo_id.rpartition("/")[2], model, compare, examples)
    for name in (model, compare):
        if name is not None and not Path(name).is_dir() and not repository.finds_model(name):
            raise ValueError(f"there is no folder {name}, and no such model on the Hub: check the name")
    url = repository.create(private)
    repository.commit(files, _REPLACED, "Upload demo")
    return url.url


def space_files(title: str, model: str, compare: str | None, examples: str) -> dict[str, Path | bytes]:
    """Return the files of a Space, or their content, by their path in it. The arguments are those of `push_space`.

    Raises:
        FileNotFoundError, ValueError: As `push_space` does.
    """
    if not examples.startswith("streets:"):
        raise ValueError(f"a Space cannot read {examples}: give a built-in domain, such as --examples streets:real")
    files: dict[str, Path | bytes] = {}
    names: list[str | None] = []
    for role, name in (("model", model), ("compare", compare)):
        folder = None if name is None else Path(name)
        if folder is not None and folder.is_dir():
            place = f"checkpoints/{role}/{folder.resolve().name}"
            # The card tells the licence.
            files[f"{place}/{CARD_FILE}"] = render_model_card(folder).encode()
            files.update({f"{place}/{file}": path for file, path in checkpoint_files(folder).items()})
            name = place
        names.append(name)
    on_hub = [name for name in names if name is not None and f"{name}/config.json" not in files]
    files["app.py"] = _APP.format(model=names[0], compare=names[1], examples=examples).encode()
    files["requirements.txt"] = "".join(f"{requirement}\n" for requirement in _requirements()).encode()
    files["README.md"] = _readme(title, on_hub).encode()
    package = (path for path in sorted(_PACKAGE.rglob("*")) if path.suffix in _PACKAGE_SUFFIXES)
    files.update({path.relative_to(_PACKAGE.parent).as_posix(): path for path in package})
    return files


def _requirements() -> list[str]:
    """Return what this package needs at run time. Gradio is not among it: the Space brings its own."""
    return [text for text in metadata.requires(_PACKAGE.name) or [] if "extra ==" not in text]


def _readme(title: str, on_hub: Sequence[str]) -> str:
    data = SpaceCardData(
        title=title,
        sdk="gradio",
        sdk_version=metadata.version("gradio"),
        python_version=".".join(platform.python_version_tuple()[:2]),
        app_file="app.py",
        models=list(on_hub) or None,
        tags=["semantic-segmentation", "unsupervised-domain-adaptation", _PACKAGE.name],
    )
    return _README.format(card_data=data, title=title)
