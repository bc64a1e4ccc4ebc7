from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mfm_hf.commands.prepare import main
from mfm_hf.data.domain import PaperSetting
from mfm_hf.data.domains import load_domain
from mfm_hf.data.resizing import resized
from tests.hub_server import LoopbackHub


def run(domain: object, role: str, output: Path, *options: str) -> None:
    main(["--domain", str(domain), "--role", role, "--output", str(output), "--num_workers", "0", *options])


def shapes(address: Path, role: str) -> list[tuple[tuple[int, ...], tuple[int, ...] | None]]:
    domain = load_domain(str(address), role)
    examples = [domain.decode(row) for row in domain.rows]
    return [(example.image.shape[:2], None if example.label is None else example.label.shape) for example in examples]


def test_one_folder_takes_all_roles_of_a_domain(
    folder_domain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "prepared"
    run(folder_domain, "source", out, "--size", "32", "32", "--encoding", "jpeg")
    assert f"3 examples of {folder_domain} (train) in 1 files: {out}" in capsys.readouterr().out
    run(folder_domain, "eval", out, "--size", "32", "32")
    assert shapes(out, "source") == [((16, 32), (16, 32)), ((16, 32), (16, 32)), ((27, 32), (27, 32))]
    assert shapes(out, "target") == [((16, 32), None), ((16, 32), None), ((27, 32), None)]
    assert shapes(out, "eval") == [((16, 32), (32, 64)), ((16, 32), (32, 64)), ((27, 32), (40, 48))]


def test_images_keep_their_size_unless_asked(folder_domain: Path, tmp_path: Path) -> None:
    run(folder_domain, "source", tmp_path / "prepared")
    before, after = load_domain(str(folder_domain), "source"), load_domain(str(tmp_path / "prepared"), "source")
    for row, other in zip(before.rows, after.rows, strict=True):
        np.testing.assert_array_equal(before.decode(row).image, after.decode(other).image)
    assert after.classes == before.classes


def test_a_recipe_knows_the_size_of_a_benchmark(
    folder_domain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    domain = replace(load_domain(str(folder_domain), "source"), paper=PaperSetting((32, 16), (64, 32)))
    monkeypatch.setattr("mfm_hf.data.domains.load_domain", lambda *args, **options: domain)
    for recipe, box in (("daformer", (32, 16)), ("mic", (64, 32))):
        run(folder_domain, "source", tmp_path / recipe, "--recipe", recipe)
        prepared = load_domain(str(tmp_path / recipe), "source")
        expected = resized(domain, box, labels=True)
        assert prepared.decode(prepared.row_at(0)).image.shape == expected.decode(expected.row_at(0)).image.shape


def test_the_result_may_go_to_the_hub(folder_domain: Path, tmp_path: Path, loopback_hub: LoopbackHub) -> None:
    run(folder_domain, "source", tmp_path / "prepared", "--push_to_hub", "someone/city")
    assert loopback_hub.repos["datasets/someone/city"].private
    files = loopback_hub.repos["datasets/someone/city"].files
    for name in ("manifest.json", "README.md"):  # the name of the folder, and not where it lies
        assert folder_domain.name in files[name].decode()
        assert str(folder_domain) not in files[name].decode()
    assert load_domain("someone/city", "source").num_rows == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--quality", "90"), "--quality is for jpeg and webp, png keeps every pixel: leave it away"),
        (("--encoding", "jpeg", "--quality", "200"), "--quality is 200: give 1 to 100"),
        (("--recipe", "daformer"), "is no benchmark whose size --recipe daformer would know: give --size"),
        (("--num_workers", "-1"), "--num_workers is -1: give 0 or more"),
        (("--push_to_hub", "not/a/name"), "'not/a/name' cannot be the name of a repository"),
    ],
)
def test_bad_input_gets_one_line_and_writes_nothing(
    folder_domain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(folder_domain, "source", tmp_path / "prepared", *options)
    assert stopped.value.code == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not (tmp_path / "prepared").exists()
