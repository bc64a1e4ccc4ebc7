from __future__ import annotations

import importlib
import importlib.metadata
from pathlib import Path

import pytest

import mfm_hf
from mfm_hf import commands
from mfm_hf.commands import COMMANDS, main


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr("sys.argv", ["mfm-hf", *words])
    main()


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",)])
def test_help_lists_every_command(
    words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, *words)
    printed = capsys.readouterr()
    assert printed.out.startswith("usage: mfm-hf COMMAND")
    for name, purpose in COMMANDS.items():
        assert any(line.split(maxsplit=1) == [name, purpose] for line in printed.out.splitlines())
    assert printed.err == ""


def test_unknown_command_is_named_below_the_list(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "trian", "--mfm")
    assert stopped.value.code == 2
    printed = capsys.readouterr()
    assert "  train " in printed.out
    assert printed.err.strip() == "error: there is no command 'trian'"


def test_version(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run(monkeypatch, "--version")
    assert capsys.readouterr().out.strip() == mfm_hf.__version__


def test_every_module_is_a_command() -> None:
    modules = {path.stem for path in Path(commands.__file__).parent.glob("[a-z]*.py")} - {"arguments"}
    assert modules == set(COMMANDS)
    for name in COMMANDS:
        assert callable(importlib.import_module(f"mfm_hf.commands.{name}").main)


def test_words_after_the_command_are_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(monkeypatch, "train", "--help")
    assert stopped.value.code == 0
    assert "usage: mfm-hf train " in capsys.readouterr().out


def test_console_command_is_this_one() -> None:
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name="mfm-hf")
    assert entry.load() is main
