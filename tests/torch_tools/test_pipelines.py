"""transformers.pipeline generates with our models, to our text."""

import pytest
import transformers

import gptj
from models import short_demo

pytestmark = pytest.mark.frameworks

PROMPTS = ["import os", "class Stack:\n    def"]
GREEDY = {"max_new_tokens": 6, "do_sample": False}


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    gptj.load(short_demo(), backend="torch").save_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = tokenizer.eos_token
    model = gptj.load(folder, backend="torch")
    return transformers.pipeline("text-generation", model=model, tokenizer=tokenizer)


def test_a_text_is_ours(pipe):
    (found,) = pipe(PROMPTS[0], **GREEDY)
    assert found["generated_text"] == pipe.model.generate_text(PROMPTS[0], max_new_tokens=6)


def test_a_batch_of_padded_texts_is_ours(pipe):
    found = pipe(PROMPTS, batch_size=2, **GREEDY)
    texts = [each[0]["generated_text"] for each in found]
    assert texts == pipe.model.generate_text(PROMPTS, max_new_tokens=6)


def test_options_may_come_in_an_object_of_transformers(pipe):
    options = transformers.GenerationConfig(**GREEDY, num_beams=2, cache_implementation="static")
    (found,) = pipe(PROMPTS[0], generation_config=options)
    expected = pipe.model.generate_text(PROMPTS[0], max_new_tokens=6, num_beams=2)
    assert found["generated_text"] == expected


def test_several_samples_are_drawn(pipe):
    found = pipe(PROMPTS[0], max_new_tokens=3, do_sample=True, num_return_sequences=2)
    assert all(each["generated_text"].startswith(PROMPTS[0]) for each in found)
    assert len(found) == 2


def test_a_streamer_of_transformers_gets_the_text(pipe, capsys):
    streamer = transformers.TextStreamer(pipe.tokenizer, skip_prompt=True)
    (found,) = pipe(PROMPTS[0], streamer=streamer, **GREEDY)
    assert PROMPTS[0] + capsys.readouterr().out.removesuffix("\n") == found["generated_text"]
