"""The package as a whole: what importing it does, and which rooms know each other."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForSemanticSegmentation

import mfm_hf

PACKAGE = Path(mfm_hf.__file__).parent
# From the ground up. A room knows itself and the floors below, never its neighbours.
FLOORS = ({"models", "data"}, {"mfm", "evaluation", "hub"}, {"uda"}, {"benchmarking"}, {"commands"})
# What an import is called where the distribution has another name.
DISTRIBUTIONS = {"PIL": "pillow", "yaml": "pyyaml"}
# Files that need an extra. What uses them says so where it is not installed.
EXTRAS = {
    "commands/_demo_page.py": "demo",
    "commands/_inputs.py": "video",
    "commands/comparison/plot.py": "plot",
    "commands/demo_app.py": "demo",
    "hub/export.py": "onnx",
}


def imports(file: Path) -> set[str]:
    """The full names of all modules that a file imports, inside its functions too."""
    package = [PACKAGE.name, *file.relative_to(PACKAGE).parent.parts]
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            # `from mfm_hf.uda import run_folder` may name a module or something in one.
            found |= {f"{base}.{alias.name}" for alias in node.names}
    return found


def files_of(room: str) -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py"))


def test_public_names_can_be_imported() -> None:
    assert len(set(mfm_hf.__all__)) == len(mfm_hf.__all__)
    for name in mfm_hf.__all__:
        value = getattr(mfm_hf, name)
        assert getattr(value, "__name__", name) == name
    assert set(mfm_hf.__all__) == set(dir(mfm_hf))


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Segmenter'"):
        _ = mfm_hf.Segmenter


def test_version_is_that_of_the_metadata() -> None:
    assert mfm_hf.__version__ == importlib.metadata.version("mfm_hf")


@pytest.mark.parametrize("model", ["Daformer", "DeepLabV2", "Hrda"])
def test_auto_classes_know_our_networks(model: str) -> None:
    config_class = getattr(mfm_hf, f"{model}Config")
    assert type(AutoConfig.for_model(config_class.model_type)) is config_class
    model_class = AutoModelForSemanticSegmentation._model_mapping[config_class]
    assert model_class is getattr(mfm_hf, f"{model}ForSemanticSegmentation")


def test_importing_the_package_is_light() -> None:
    code = "import sys, mfm_hf; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    loaded = set(done.stdout.split())
    assert "mfm_hf.models.auto" in loaded
    assert not loaded & {"evaluate", "datasets"}
    assert not {name for name in loaded if name.startswith(("mfm_hf.data", "mfm_hf.mfm.", "mfm_hf.uda"))}


def test_every_module_can_be_imported() -> None:
    names = [module.name for module in pkgutil.walk_packages(mfm_hf.__path__, "mfm_hf.")]
    assert len(names) == len([path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py"])
    for name in names:
        if name != "mfm_hf.__main__":  # which runs a command
            importlib.import_module(name)


def test_imports_are_declared_dependencies() -> None:
    """Above all not torchvision, which transformers would use if it were there, and which need not be there."""
    declared: dict[str | None, set[str]] = {None: set()}
    for requirement in importlib.metadata.requires("mfm_hf") or []:
        extra = re.search(r'extra == "(\w+)"', requirement)
        declared.setdefault(extra and extra[1], set()).add(re.match(r"[\w-]+", requirement)[0].lower())
    assert "torch" in declared[None]
    assert not any("torchvision" in names for names in declared.values())
    for file in PACKAGE.rglob("*.py"):
        roots = {name.partition(".")[0] for name in imports(file)} - sys.stdlib_module_names - {"mfm_hf"}
        allowed = declared[None] | declared[EXTRAS.get(file.relative_to(PACKAGE).as_posix())]
        assert {DISTRIBUTIONS.get(root, root) for root in roots} <= allowed, file


@pytest.mark.parametrize("room", [room for floor in FLOORS for room in sorted(floor)])
def test_arrows_between_rooms_run_down(room: str) -> None:
    level = next(index for index, floor in enumerate(FLOORS) if room in floor)
    allowed = {room}.union(*FLOORS[:level])
    rooms = set().union(*FLOORS)
    files = files_of(room)
    assert len(files) > 1
    for file in files:
        entered = {name.split(".")[1] for name in imports(file) if name.startswith("mfm_hf.")} & rooms
        assert entered <= allowed, file


def test_every_room_stands_on_a_floor() -> None:
    rooms = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert rooms == set().union(*FLOORS)
    for file in PACKAGE.glob("*.py"):  # below all rooms; __init__ only opens doors
        if file.name not in ("__init__.py", "__main__.py"):  # which runs the commands
            assert not any(name.startswith("mfm_hf") for name in imports(file)), file


def test_models_can_be_copied_as_one_folder() -> None:
    """A Hub repository that carries its own code keeps only relative imports of the same folder."""
    for file in files_of("models"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.level <= 1, file
                assert node.level == 1 or not (node.module or "").startswith("mfm_hf"), file
