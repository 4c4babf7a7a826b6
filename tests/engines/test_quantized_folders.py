"""A quantized folder of ours, whose integers no other program may take for weights."""

import pytest

import gptj
from export_cases import redrawn

ctranslate2 = pytest.importorskip("ctranslate2")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.frameworks


@pytest.fixture(scope="module", params=["int8", "int4"])
def folder(request, tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    model = redrawn(place / "model", n_embd=128, n_inner=512)  # int4 has groups of 128
    return gptj.convert(model, place / "quantized", quantize=request.param)


def test_ctranslate2_does_not_convert_it(folder, tmp_path):
    converter = ctranslate2.converters.TransformersConverter(str(folder))
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        converter.convert(str(tmp_path / "out"))


def test_transformers_does_not_open_it(folder):
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        transformers.AutoModelForCausalLM.from_pretrained(folder)
