"""Check that checkpoints do not depend on the version of `transformers`.

Makes an environment with the oldest supported version and one with the newest. Either saves a tiny network of every
architecture; the other loads and saves it again; the first loads that. After each of these hops the logits must be
those of the start, and no weight may be missing or left over. Fails (exit code 1) where one is not.

    python scripts/check_versions.py --folder environments --tests
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
TOLERANCE = 1e-6
TEST_FOLDERS = ("tests/models", "tests/mfm", "tests/uda", "tests/hub")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--old", default="5.17.0", help="oldest version of transformers (default: %(default)s)")
    parser.add_argument("--new", default="5.23.0", help="newest version of transformers (default: %(default)s)")
    parser.add_argument("--torch", default="2.13.0", help="version of torch in both (default: %(default)s)")
    parser.add_argument("--folder", type=Path, help="where the environments are made and kept (default: not kept)")
    parser.add_argument("--tests", action="store_true", help="also run the tests of networks and training under --old")
    args = parser.parse_args()

    with tempfile.TemporaryDirectory() as workplace:
        folder = (args.folder or Path(workplace)).resolve()
        old, new = (make_environment(folder, version, args.torch) for version in (args.old, args.new))
        there = travel([(args.old, old), (args.new, new), (args.old, old)], Path(workplace) / "from_old")
        back = travel([(args.new, new), (args.old, old), (args.new, new)], Path(workplace) / "from_new")
        good = there and back
        if args.tests:
            good &= subprocess.run([old, "-m", "pytest", *TEST_FOLDERS], cwd=ROOT, env=environ()).returncode == 0
    sys.exit(0 if good else 1)


def make_environment(folder: Path, version: str, torch_version: str) -> Path:
    """Make an environment with this package and a version of transformers, and return its Python.

    torch goes first, as in the Makefile. One that exists is kept, and brought up to date.
    """
    home = folder / f"transformers-{version}"
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if not python.exists():
        venv.create(home, with_pip=True)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, f"torch=={torch_version}"], check=True)
    subprocess.run([*pip, f"transformers=={version}", "-e", ROOT, "pytest", "scikit-learn"], check=True)
    return python


def travel(stations: list[tuple[str, Path]], folder: Path) -> bool:
    """Let the networks travel through the environments in turn, print what became of them, and say whether all is well.

    Args:
        stations: For each environment, its version of transformers and its Python.
        folder: Where the checkpoints are put, in a subfolder for every station.
    """
    folders = [folder / str(number) for number in range(len(stations))]
    for subfolder in folders:
        subfolder.mkdir(parents=True)
    run_hop(stations[0][1], "start", folders[0])
    good = True
    for index in range(1, len(stations)):
        run_hop(stations[index][1], "pass", folders[index - 1], folders[index])
        report = json.loads((folders[index] / "report.json").read_text())
        print("\n" + " -> ".join(version for version, _ in stations[: index + 1]))
        print(f"read with {', '.join(f'{name} {version}' for name, version in report['versions'].items())}")
        for name, result in report["networks"].items():
            good &= print_row(name, result)
    return good


def run_hop(python: Path, *arguments: str | Path) -> None:
    subprocess.run([python, "-m", "tests.version_hop", *arguments], cwd=ROOT, env=environ(), check=True)


def environ() -> dict[str, str]:
    return {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def print_row(name: str, result: dict[str, Any]) -> bool:
    """Print how a network arrived, and return whether it arrived whole."""
    is_whole = result["difference"] <= TOLERANCE and not result["keys"]
    verdict = "same" if is_whole else f"DIFFERS {' '.join(result['keys'])}"
    print(
        f"  {name:22} {result['class']:36} logits up to {result['largest_logit']:8.3f}, "
        f"off by at most {result['difference']:.1e}: {verdict}"
    )
    return is_whole


if __name__ == "__main__":
    main()
