"""Models, configurations, tokenizers and data sets are copied, pickled and sent to processes."""

import copy
import pickle

import numpy as np
import pytest

import gptj
from gptj.datasets import text_dataset
from gptj.spec.heads import HEADS
from models import tiny_config, tiny_model
from spawned import first_output, in_another_process

COPIES = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
}


@pytest.mark.frameworks
@pytest.mark.parametrize("how", COPIES)
@pytest.mark.parametrize("head", HEADS)
def test_a_copied_model_computes_the_same(framework, head, how):
    model = tiny_model(framework.name, head)
    copied = COPIES[how](model)
    assert np.array_equal(first_output(copied), first_output(model))
    assert copied.config == model.config and copied.config is not model.config
    assert copied.generation_config == model.generation_config


@pytest.mark.frameworks
@pytest.mark.parametrize("how", COPIES)
def test_a_copied_model_generates_and_is_another(framework, how):
    model = gptj.load("demo", backend=framework.name)
    copied = COPIES[how](model)
    assert copied.name_or_path == copied.config.name_or_path == model.name_or_path
    assert copied.source_folder == model.source_folder
    copied.config.n_ctx = 3
    assert model.config.get("n_ctx") is None
    options = {"max_new_tokens": 3}
    assert copied.generate_text("import", **options) == model.generate_text("import", **options)


@pytest.mark.frameworks
@pytest.mark.parametrize("how", COPIES)
def test_a_tied_model_is_tied_after_copying(torch_backend, how):
    copied = COPIES[how](tiny_model("torch", tie_word_embeddings=True))
    assert copied.lm_head.weight is copied.transformer.wte.weight
    assert "lm_head.weight" not in copied.state_dict()


@pytest.mark.frameworks
@pytest.mark.needs("adapters")
@pytest.mark.parametrize("how", COPIES)
def test_a_copied_model_has_its_adapter(framework, how):
    model = copy.deepcopy(tiny_model(framework.name)).add_lora(rank=2, seed=1)
    copied = COPIES[how](model)
    assert copied.lora == model.lora
    assert np.array_equal(first_output(copied), first_output(model))


@pytest.mark.frameworks
def test_a_model_is_sent_to_a_spawned_process(framework):
    model = tiny_model(framework.name)
    found = in_another_process(first_output, model)
    np.testing.assert_allclose(found, first_output(model), atol=1e-6)


@pytest.mark.neutral
@pytest.mark.parametrize("how", COPIES)
def test_a_copied_tokenizer_encodes_the_same(how):
    tokenizer = gptj.load_tokenizer("demo")
    copied = COPIES[how](tokenizer)
    text = "def f(x):\n    return x<|endoftext|>"
    assert copied(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert copied.decode(copied.encode(text)) == text


@pytest.mark.neutral
def test_a_tokenizer_and_a_configuration_are_sent_to_a_spawned_process():
    tokenizer, config = gptj.load_tokenizer("demo"), tiny_config()
    assert in_another_process(tokenizer.encode, "import os") == tokenizer.encode("import os")
    assert in_another_process(config.to_dict) == config.to_dict()


@pytest.mark.neutral
@pytest.mark.parametrize("how", COPIES)
def test_a_copied_data_set_has_the_same_examples(how, tmp_path):
    (tmp_path / "text.txt").write_text("import os\n" * 60, encoding="utf-8")
    tokenizer = gptj.load_tokenizer("demo")
    data = text_dataset(tmp_path / "text.txt", tokenizer, length=16, cache_dir=tmp_path)
    copied = COPIES[how](data)
    assert len(copied) == len(data) > 1
    for name, array in data[1].items():
        assert np.array_equal(copied[1][name], array)
