"""Models of every backend answer what programs around them ask."""

import copy
from pathlib import Path

import pytest

import gptj
from gptj.errors import ArgumentError
from gptj.spec.heads import HEADS
from models import draw_ids, tiny_model
from paths import TINY

pytestmark = pytest.mark.frameworks


class Foreign:
    """Another library's generation configuration, as far as anything of it is read."""

    def __init__(self, **options):
        self.options = options

    def to_diff_dict(self):
        return {"transformers_version": "5.0.0", "_from_model_config": True, **self.options}


def test_a_loaded_model_knows_its_folder(framework):
    model = gptj.load(TINY, backend=framework.name)
    assert model.name_or_path == model.config.name_or_path == str(TINY.resolve())
    assert model.__dict__["name_or_path"] == str(TINY.resolve())


def test_the_demo_is_known_by_a_folder_that_other_programs_find(torch_backend):
    folder = Path(gptj.__file__).parent / "data" / "demo"
    assert gptj.load("demo", backend="torch").name_or_path == str(folder.resolve())


def test_a_new_model_has_no_name(framework):
    assert tiny_model(framework.name).name_or_path == ""


@pytest.mark.parametrize("head", HEADS)
def test_the_language_model_alone_can_generate(framework, head):
    model = tiny_model(framework.name, head)
    assert model.can_generate() == type(model).can_generate() == (head == "causal_lm")


def test_tags_are_added_once(framework):
    model = gptj.load(TINY, backend=framework.name)
    assert model.model_tags is None
    model.add_model_tags("sft")
    model.add_model_tags(["trl", "sft"])
    assert list(model.model_tags) == ["sft", "trl"]


def test_a_new_model_has_generation_options_that_can_be_set(framework):
    model = type(tiny_model(framework.name))(gptj.GPTJConfig.from_pretrained(TINY))
    assert model.generation_config.eos_token_id == model.config.eos_token_id
    model.generation_config.max_new_tokens = 3
    assert model.generate(draw_ids((1, 4))).shape == (1, 7)


def test_another_librarys_options_are_taken_from_it(framework):
    model, ids = tiny_model(framework.name), draw_ids((1, 4))
    found = model.generate(ids, generation_config=Foreign(max_new_tokens=5, cache_config={}))
    expected = model.generate(ids, max_new_tokens=5)
    assert framework.to_numpy(found).tolist() == framework.to_numpy(expected).tolist()


def test_another_librarys_options_may_be_a_models_own(framework):
    model = gptj.load(TINY, backend=framework.name)
    model.generation_config = Foreign(max_new_tokens=2)
    assert model.generate(draw_ids((1, 4))).shape == (1, 6)


def test_what_another_librarys_options_ask_for_in_vain_is_named(framework):
    model, ids = tiny_model(framework.name), draw_ids((1, 4))
    foreign = Foreign(max_new_tokens=5, guidance_scale=1.5, epsilon_cutoff=0.1)
    with pytest.raises(ArgumentError, match="sets 'guidance_scale', 'epsilon_cutoff'"):
        model.generate(ids, generation_config=foreign)
    with pytest.raises(ArgumentError, match="sets 'guidance_scale', 'epsilon_cutoff'"):
        model.generation_config = foreign


def test_a_dict_is_no_generation_config(framework):
    model = tiny_model(framework.name)
    with pytest.raises(ArgumentError, match=r"found dict\. A dict of options is passed as"):
        model.generate(draw_ids((1, 4)), generation_config={"max_new_tokens": 5})


def test_a_part_that_does_not_fit_is_refused(torch_backend):
    import torch

    model, other = copy.deepcopy(tiny_model("torch")), copy.deepcopy(tiny_model("torch", "base"))
    model.set_decoder(other)
    assert model.get_decoder() is other.get_decoder() is other
    classes = tiny_model("torch", "sequence_classification")
    for call, message in (
        (lambda: model.set_decoder(model.lm_head), r"another GPTJModel; found Linear for a GPTJF"),
        (lambda: other.set_decoder(other), r"another GPTJModel; found GPTJModel for a GPTJModel"),
        (lambda: model.set_output_embeddings(torch.nn.Linear(40, 7)), r"found .*\(7, 40\)"),
        (lambda: model.set_output_embeddings(torch.nn.Linear(40, 96, bias=False)), r"'bias': \(\)"),
        (lambda: classes.set_output_embeddings(model.lm_head), r"for a GPTJForSequenceClassific"),
    ):
        with pytest.raises(ArgumentError, match=message):
            call()


def test_a_tied_head_stays_tied(torch_backend):
    import torch

    model = copy.deepcopy(tiny_model("torch", tie_word_embeddings=True))
    model.set_output_embeddings(torch.nn.Linear(40, 96))
    assert model.lm_head.weight is model.transformer.wte.weight
