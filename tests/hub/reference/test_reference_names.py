import pytest
from transformers import SegformerConfig

from mfm_hf.hub.reference.names import name_table
from mfm_hf.models.configuration_hrda import HrdaConfig
from mfm_hf.models.modeling_hrda import HrdaForSemanticSegmentation


def test_the_references_have_no_hrda_over_segformer() -> None:
    sizes = {"hidden_sizes": [8, 8, 8, 8], "num_attention_heads": [1, 1, 1, 1], "depths": [1, 1, 1, 1]}
    model = HrdaForSemanticSegmentation(HrdaConfig(base_config=SegformerConfig(decoder_hidden_size=8, **sizes)))
    with pytest.raises(ValueError, match="no HRDA over segformer"):
        name_table(model)
