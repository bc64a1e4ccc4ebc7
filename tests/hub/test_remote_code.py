import ast
import json
import sys
from pathlib import Path

import pytest
from transformers import AutoConfig, AutoModelForSemanticSegmentation

from mfm_hf.hub.publish import publish
from mfm_hf.hub.remote_code import code_files, with_auto_map
from tests.hub_server import LoopbackHub
from tests.tiny_models import tiny_model

REPO = "lab/streets"
NETWORKS = ("daformer", "deeplabv2", "hrda")


@pytest.mark.parametrize("model_type", NETWORKS)
def test_files_need_nothing_but_each_other_and_public_packages(model_type: str) -> None:
    files = code_files(model_type)
    for file in files.values():
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                assert f"{node.module}.py" in files
            elif isinstance(node, ast.ImportFrom):
                package = node.module.partition(".")[0]
                assert package in sys.stdlib_module_names | {"torch", "transformers"}


def test_a_network_carries_no_code_of_others() -> None:
    assert not {"modeling_hrda.py", "modeling_deeplabv2.py", "segformer.py"} & code_files("daformer").keys()
    assert not {"modeling_hrda.py", "modeling_daformer.py", "mix_transformer.py"} & code_files("deeplabv2").keys()


def test_segformer_needs_none() -> None:
    assert code_files("segformer") == {}
    assert with_auto_map({"model_type": "segformer"}) == {"model_type": "segformer"}


@pytest.mark.parametrize("model_type", NETWORKS)
def test_config_names_classes_that_the_files_define(model_type: str) -> None:
    other = {"AutoConfig": "lab/elsewhere--configuration.Config"}  # as a config that came with code has it
    auto_map = with_auto_map({"model_type": model_type, "auto_map": other})["auto_map"]
    assert auto_map.keys() == {"AutoConfig", "AutoModelForSemanticSegmentation"}
    for reference in auto_map.values():
        module, name = reference.split(".")
        source = ast.parse(code_files(model_type)[f"{module}.py"].read_text())
        assert name in {node.name for node in source.body if isinstance(node, ast.ClassDef)}


@pytest.mark.parametrize("name", ["daformer", "deeplabv2", "hrda", "hrda_deeplabv2"])
def test_who_has_imported_the_package_need_not_trust_the_repository(
    name: str, loopback_hub: LoopbackHub, tmp_path: Path
) -> None:
    model = tiny_model(name)
    model.save_pretrained(tmp_path / "run")
    before = (tmp_path / "run/config.json").read_bytes()
    publish(tmp_path / "run", REPO, retry_waits=())
    assert (tmp_path / "run/config.json").read_bytes() == before
    files = loopback_hub.repos[REPO].files
    assert "auto_map" in json.loads(files["config.json"])
    assert code_files(model.config.model_type).keys() <= files.keys()
    for trust in (None, True):  # and nothing is run even by those who do
        config = AutoConfig.from_pretrained(REPO, trust_remote_code=trust)
        assert type(config) is type(model.config)
        network = AutoModelForSemanticSegmentation.from_pretrained(REPO, trust_remote_code=trust)
        assert type(network) is model.inference_class


def test_code_of_an_older_upload_goes(loopback_hub: LoopbackHub, tmp_path: Path) -> None:
    for name in ("hrda", "daformer", "segformer"):
        tiny_model(name).save_pretrained(tmp_path / name)
        publish(tmp_path / name, REPO, retry_waits=())
        loopback_hub.repos[REPO].files["handler.py"] = b"# the owner's own"
        code = {path for path in loopback_hub.repos[REPO].files if path.endswith(".py")}
        assert code == {"handler.py", *code_files(name)}
    assert "auto_map" not in json.loads(loopback_hub.repos[REPO].files["config.json"])
