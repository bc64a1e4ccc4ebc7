"""The images and videos that a command is given, and a name for what is made of each."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from mfm_hf.data.image_files import IMAGE_SUFFIXES

VIDEO_SUFFIXES = frozenset({".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm"})
_SUFFIXES = IMAGE_SUFFIXES | VIDEO_SUFFIXES


@dataclass(frozen=True)
class InputFile:
    """An image or video, and the name of its outputs: a relative path, unique among all inputs."""

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        """Whether the file has frames."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


def find_inputs(paths: Sequence[Path], output: Path) -> list[InputFile]:
    """Collect images and videos from files and, recursively, from folders.

    Args:
        paths: Files and folders. A file that is met twice is taken once.
        output: The folder for what is made of them. It is not searched where it lies below one of the folders: what an
            earlier run wrote is no input.

    Raises:
        FileNotFoundError: If a path does not exist, or there is no image or video at all.
        ValueError: If one of the folders is the output itself, or there are videos and nothing to read them with.
    """
    roots: dict[Path, Path] = {}
    for path in map(_absolute, paths):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist: give an image, a video or a folder of them")
        if path.is_dir():
            roots.update({file: path for file in _files_below(path, _absolute(output)) if file not in roots})
        else:
            roots.setdefault(path, path.parent)
    if not roots:
        suffixes = ", ".join(sorted(_SUFFIXES))
        raise FileNotFoundError(f"no image or video in {', '.join(map(str, paths))}: looked for {suffixes}")
    files = [InputFile(file, name) for file, name in zip(roots, _unique_names(roots), strict=True)]
    video = next((file for file in files if file.is_video), None)
    if video is not None and find_spec("av") is None:
        raise ValueError(f"{video.path} is a video, and to read it needs PyAV: pip install av, or give its frames")
    return files


def count_frames(path: Path) -> int | None:
    """Return how many frames a video says it has, or None where it does not say, or cannot be read."""
    import av

    try:
        with av.open(str(path)) as container:
            return container.streams.video[0].frames or None
    except (av.FFmpegError, IndexError):
        return None


def read_frames(path: Path, step: int = 1) -> Iterator[tuple[int, Image.Image]]:
    """Yield the number, from 0 on, and the picture, upright and in RGB, of every `step`-th frame of a video.

    Raises:
        ValueError: If it is no video, or damaged from some frame on.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ValueError("it has no pictures")
            container.streams.video[0].thread_type = "AUTO"
            for number, frame in enumerate(container.decode(video=0)):
                if number % step == 0:
                    # Telephones store how they were held; both count counterclockwise.
                    yield number, frame.to_image().rotate(frame.rotation, expand=True)
    except av.FFmpegError as error:
        raise ValueError(" ".join(str(error).split())) from error


def _absolute(path: Path) -> Path:
    """Return the path without `..`, but with its symbolic links: images may be linked into a folder from elsewhere."""
    return Path(os.path.abspath(path))


def _files_below(folder: Path, output: Path) -> list[Path]:
    if folder == output:
        raise ValueError(f"{folder} is input and output: choose another output, such as {folder / 'predictions'}")
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())
    if output.is_relative_to(folder):
        files = [file for file in files if not file.is_relative_to(output)]
    return files


def _unique_names(roots: dict[Path, Path]) -> list[str]:
    """Name files as shortly as keeps them apart.

    First choice: relative to the path that the user gave; then to the folder that all share; at last with the suffix.
    """
    shared = Path(os.path.commonpath([file.parent for file in roots]))
    short = [file.relative_to(root).with_suffix("") for file, root in roots.items()]
    longer = [file.relative_to(shared).with_suffix("") for file in roots]
    longest = [file.relative_to(shared) for file in roots]
    names = next(names for names in (short, longer, longest) if len(set(names)) == len(names))
    return [name.as_posix() for name in names]
