from pathlib import Path

import pytest

from mfm_hf.hub.public_results import public_name, public_results


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("/home/me/city", "city"),
        ("/home/me/city#train", "city#train"),
        ("/home/me/city (validation)", "city (validation)"),
        ("~/city", "city"),
        ("../city", "city"),
        ("gta:/home/me/GTA5", "gta"),
        ("acdc:data/acdc:fog#validation", "acdc#validation"),
        ("streets:real:64x128", "streets:real:64x128"),
        ("lab/city", "lab/city"),
        ("https://example.org/city", "https://example.org/city"),
        ("no names\nbut text", "no names\nbut text"),
    ],
)
def test_names_lose_their_folders(name: str, public: str) -> None:
    assert public_name(name) == public


def test_relative_path_that_exists_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert public_name("lab/city") == "lab/city"
    (tmp_path / "lab/city").mkdir(parents=True)
    assert public_name("lab/city") == "city"


def test_results_keep_what_is_no_place() -> None:
    results = {
        "mean_iou": 0.5,
        "eval": "/home/me/city (validation)",
        "notes": ["feature distance is off"],
        "failed_saves": [{"step": 1, "reason": "cannot write /home/me/run"}],
        "arguments": {"source": "/home/me/game", "output_dir": "outputs/me", "crop_size": [32, 64]},
    }
    assert public_results(results) == {
        "mean_iou": 0.5,
        "eval": "city (validation)",
        "notes": ["feature distance is off"],
        "arguments": {"source": "game", "crop_size": [32, 64]},
    }
