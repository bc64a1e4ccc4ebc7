"""What README and the pages say: links lead somewhere, commands have the options, examples run."""

from __future__ import annotations

import argparse
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
    "compare.py": "compare",
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
def options(command: str) -> dict[str, frozenset[str]]:
    """Return the options of a command by its part, as in `benchmark train`; those of its own under ""."""
    parsers: list[argparse.ArgumentParser] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("argparse.ArgumentParser.print_help", lambda self, file=None: parsers.append(self))
        with pytest.raises(SystemExit):
            importlib.import_module(f"mfm_hf.commands.{command}").main(["--help"])
    parts = {"": parsers[0]}
    for action in parsers[0]._actions:
        if isinstance(action, argparse._SubParsersAction):
            parts |= action.choices
    found = {part: {name[2:] for name in parser._option_string_actions} for part, parser in parts.items()}
    if command == "compare":  # gives what it does not know to every training
        found[""] |= options("train")[""]
    return {part: frozenset(names) for part, names in found.items()}


def test_the_options_of_a_commands_parts_are_known() -> None:
    assert "steps" in options("benchmark")["train"]
    assert "steps" not in options("benchmark")["data"]
    assert {"dry_run", "no_mfm"} <= options("train")[""]


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
            part = next((word for word in arguments.split()[:1] if word in options(command)), "")
            unknown = set(FLAG.findall(arguments)) - options(command)[part]
            assert not unknown, f"{command} {part} has no {unknown}: {line}"
        elif match := re.match(r"make (\w+)", line):
            assert f"\n{match[1]}:" in (ROOT / "Makefile").read_text(), line


@every_page
def test_options_that_the_text_quotes_exist(page: Path) -> None:
    known = {name for command in COMMANDS for names in options(command).values() for name in names}
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
