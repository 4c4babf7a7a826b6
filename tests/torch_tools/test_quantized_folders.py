"""A quantized folder of ours in transformers, which would take its integers for the weights."""

import pytest

import gptj
from torch_pairs import CLASSES, folder

transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.frameworks


@pytest.mark.parametrize("head", CLASSES)
@pytest.mark.parametrize("shards", [{}, {"max_shard_size": "20KB"}], ids=["whole", "shards"])
def test_it_is_refused(head, shards, tmp_path):
    quantized = gptj.convert(folder(head), tmp_path / "int8", quantize="int8", **shards)
    kind = getattr(transformers, CLASSES[head])
    with pytest.raises(OSError, match=r"no file named model\.safetensors, or pytorch_model\.bin"):
        kind.from_pretrained(quantized)
