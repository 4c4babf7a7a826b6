"""A quantized folder of ours, whose integers no other program may take for weights."""

import pytest

import gptj
from export_cases import redrawn

ctranslate2 = pytest.importorskip("ctranslate2")
transformers = pytest.importorskip("transformers")

pytestmark = pytest.mark.frameworks


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("models")
    return gptj.convert(redrawn(place / "model"), place / "int8", quantize="int8")


def test_ctranslate2_does_not_convert_it(folder, tmp_path):
    converter = ctranslate2.converters.TransformersConverter(str(folder))
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        converter.convert(str(tmp_path / "out"))


def test_transformers_does_not_open_it(folder):
    with pytest.raises(OSError, match=r"no file named model\.safetensors"):
        transformers.AutoModelForCausalLM.from_pretrained(folder)
