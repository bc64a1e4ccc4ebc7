"""What README and the pages say: links lead somewhere, commands have the options, examples run."""

from __future__ import annotations

import importlib
import re
import shlex
from functools import cache
from pathlib import Path

import pytest
from PIL import Image

from mfm_hf import load_domain
from mfm_hf.commands import COMMANDS
from mfm_hf.data.folders import write_folder
from mfm_hf.hub.image_processor import save_image_processor
from tests.tiny_models import tiny_model

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("model_cards/*.md")])
SCRIPTS = {
    "train_uda.py": "train",
    "evaluate_checkpoint.py": "evaluate",
    "predict.py": "predict",
    "prepare_dataset.py": "prepare",
    "benchmark.py": "benchmark",
    "preview_domain.py": "preview",
    "convert_checkpoint.py": "convert",
    "export_checkpoint.py": "export",
    "push_checkpoint.py": "push",
    "demo.py": "demo",
    "demo_app.py": "demo_app",
}

FENCE = re.compile(r"^(?P<mark><!-- runnable -->\n)?```(?P<language>\w*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)(?P<path>[^)#]*)(?:#(?P<anchor>[^)]*))?\)")
FLAG = re.compile(r"(?<![\w-])--(\w+)")
COMMAND = re.compile(rf"mfm-hf ({'|'.join(COMMANDS)})\b|scripts/({'|'.join(map(re.escape, SCRIPTS))})")
PATH = re.compile(r"`((?:mfm_hf|scripts|tests|docs|model_cards)/[\w/.]*)`")

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


def blocks(page: Path, *languages: str) -> list[str]:
    return [match["body"] for match in FENCE.finditer(page.read_text()) if match["language"] in languages]


def headings(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def command_lines(page: Path) -> list[str]:
    """Return the lines of the shell examples, and the commands that the text quotes."""
    shell = "\n".join(blocks(page, "bash")).replace("\\\n", " ").splitlines()
    return shell + re.findall(r"`((?:mfm-hf|python|accelerate|torchrun) [^`]*)`", prose(page))


@cache
def options(command: str) -> frozenset[str]:
    """Return the options in a command's help. `--no_x` is understood for every on/off option `x`."""
    parser_holder = importlib.import_module(f"mfm_hf.commands.{command}")
    with pytest.MonkeyPatch.context() as patch:
        lines: list[str] = []
        patch.setattr("argparse.ArgumentParser._print_message", lambda self, message, file=None: lines.append(message))
        with pytest.raises(SystemExit):
            parser_holder.main(["--help"])
    found = set(FLAG.findall("".join(lines)))
    return frozenset(found | {f"no_{name}" for name in found})


@every_page
def test_links_lead_somewhere(page: Path) -> None:
    for match in LINK.finditer(prose(page)):
        target = (page.parent / match["path"]).resolve() if match["path"] else page
        assert target.exists(), f"{match[0]} leads nowhere"
        assert target.is_relative_to(ROOT)
        if match["anchor"]:
            assert match["anchor"] in headings(target), f"{match[0]} names no heading"


@every_page
def test_files_that_are_named_exist(page: Path) -> None:
    for path in PATH.findall(prose(page)):
        assert (ROOT / path).exists(), path


@every_page
def test_commands_have_the_options_that_examples_use(page: Path) -> None:
    for line in command_lines(page):
        if match := COMMAND.search(line):
            command = match[1] or SCRIPTS[match[2]]
            arguments = line[match.end() :].partition(" #")[0]
            unknown = set(FLAG.findall(arguments)) - options(command)
            assert not unknown, f"{command} has no {unknown}: {line}"
        elif match := re.match(r"make (\w+)", line):
            assert f"\n{match[1]}:" in (ROOT / "Makefile").read_text(), line


@every_page
def test_options_that_the_text_quotes_exist(page: Path) -> None:
    known = {name for command in COMMANDS for name in options(command)}
    for script in ROOT.glob("scripts/*.py"):
        known |= set(re.findall(r'"--(\w+)"', script.read_text()))
    quoted = {name for flags in re.findall(r"`(--[^`]*)`", prose(page)) for name in FLAG.findall(flags)}
    assert quoted <= known, quoted - known


@every_page
def test_examples_can_be_read(page: Path) -> None:
    for source in blocks(page, "python"):
        compile(source, page.name, "exec")
    for line in command_lines(page):
        shlex.split(line.replace("<this repository>", "URL"), comments=True)


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with what the examples take for granted: data, an adapted checkpoint and a photo."""
    for name, folder in (("game:32x64#train", "game"), ("real:32x64#train", "real/train"), ("real:32x64", "real/val")):
        write_folder(load_domain(f"streets:{name}", "eval"), tmp_path / "data" / folder, limit=4)
    tiny_model().save_pretrained(tmp_path / "outputs/run")
    save_image_processor(tmp_path / "outputs/run")
    Image.new("RGB", (48, 32), "gray").save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


RUNNABLE = [page for page in PAGES if "<!-- runnable -->" in page.read_text()]


@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_marked_examples_run(page: Path, workplace: Path) -> None:
    """The examples of a page follow one another, as a reader would run them."""
    namespace: dict[str, object] = {"__name__": page.stem}
    for match in FENCE.finditer(page.read_text()):
        if match["mark"] and match["language"] == "bash":
            run_commands(match["body"])
        elif match["mark"]:
            exec(compile(match["body"], page.name, "exec"), namespace)  # dataclasses look for their module by __name__


def run_commands(body: str) -> None:
    for line in body.replace("\\\n", " ").splitlines():
        program, command, *arguments = shlex.split(line)
        assert program == "mfm-hf", f"only commands of the package can be run by a test: {line}"
        importlib.import_module(f"mfm_hf.commands.{command}").main(arguments)
