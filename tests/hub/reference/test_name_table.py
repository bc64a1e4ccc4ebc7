import pytest
import torch

from mfm_hf.hub.reference.name_table import Module, NameTable, ReversedModule, StackedModule, prefixed


def test_tensors_are_renamed_split_and_reordered() -> None:
    table = NameTable(
        (
            Module("norm", ("layer_norm",)),
            StackedModule("kv", ("key", "value")),
            ReversedModule("fuse", ("fusion",), stages=2),
        ),
        unused={"dead.weight": (3,)},
    )
    theirs = {
        "norm.weight": torch.tensor([1.0]),
        "norm.bias": torch.tensor([2.0]),
        "kv.weight": torch.tensor([[1.0], [2.0], [3.0], [4.0]]),
        "fuse.weight": torch.tensor([[1.0, 2.0, 3.0, 4.0]]),
    }
    ours = table.to_ours(theirs)
    assert {name: tensor.tolist() for name, tensor in ours.items()} == {
        "layer_norm.weight": [1.0],
        "layer_norm.bias": [2.0],
        "key.weight": [[1.0], [2.0]],
        "value.weight": [[3.0], [4.0]],
        "fusion.weight": [[3.0, 4.0, 1.0, 2.0]],
    }
    assert ours["key.weight"].untyped_storage().data_ptr() != ours["value.weight"].untyped_storage().data_ptr()

    back = table.to_reference(ours)
    assert back.pop("dead.weight").tolist() == [0.0, 0.0, 0.0]
    assert {name: tensor.tolist() for name, tensor in back.items()} == {
        name: tensor.tolist() for name, tensor in theirs.items()
    }


def test_a_tensor_without_counterpart_is_named() -> None:
    with pytest.raises(ValueError, match="no counterpart of 'extra'"):
        NameTable((Module("a", ("b",)),)).to_reference({"b.weight": torch.zeros(1), "extra.weight": torch.zeros(1)})


def test_a_prefix_goes_before_the_names_of_both_sides() -> None:
    (module,) = prefixed([StackedModule("kv", ("key", "value"))], "backbone.", "encoder.")
    assert module == StackedModule("backbone.kv", ("encoder.key", "encoder.value"))
