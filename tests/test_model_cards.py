"""The cards of published checkpoints are what their facts say, and the index knows them all."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

FOLDER = Path(__file__).parents[1] / "model_cards"
# What the converter keeps of the published files: docs/converting_checkpoints.md.
PARAMETERS = {"daformer": "85,155,283", "hrda": "85,685,990", "mic": "85,685,990"}


@pytest.fixture(scope="module")
def cards() -> dict[str, str]:
    spec = importlib.util.spec_from_file_location("write_model_cards", FOLDER.parent / "scripts/write_model_cards.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script.render_cards()


def test_cards_are_those_that_the_script_writes(cards: dict[str, str]) -> None:
    written = {path.name: path.read_text() for path in FOLDER.glob("*.md") if path.name != "README.md"}
    assert written == cards, "run scripts/write_model_cards.py"


def test_metadata_and_text_are_whole(cards: dict[str, str]) -> None:
    assert len(cards) == 12
    for name, text in cards.items():
        card = ModelCard(text)
        assert card.data.model_name == (Path(name).stem if card.data.eval_results else None)
        assert (card.data.license, card.data.base_model) == ("other", "nvidia/mit-b5")
        assert f"{PARAMETERS[name.partition('_')[0]]} parameters" in card.text
        assert "not trained, measured or hosted by this project" in card.text.lower()
        assert "None" not in text
        assert "Undefined" not in text


def test_results_are_those_of_the_file_and_name_their_source(cards: dict[str, str]) -> None:
    results = {name: ModelCard(text).data.eval_results for name, text in cards.items()}
    found = {name: scores[0] for name, scores in results.items() if scores}
    assert {name: score.metric_value for name, score in found.items()} == {
        "daformer_gta_to_cityscapes.md": 0.6885,
        "hrda_gta_to_cityscapes.md": 0.7379,
    }
    assert all(score.source_url.startswith("https://github.com/lhoyer/") for score in found.values())


def test_index_links_every_card(cards: dict[str, str]) -> None:
    index = (FOLDER / "README.md").read_text()
    assert not [name for name in cards if f"]({name})" not in index]
