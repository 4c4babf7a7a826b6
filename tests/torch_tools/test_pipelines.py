"""transformers.pipeline runs our models, to our text and to the numbers of transformers' GPT-J."""

import pytest
import torch
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


def test_what_generation_returns_besides_is_in_the_results(pipe):
    (found,) = pipe(PROMPTS[0], return_dict_in_generate=True, output_scores=True, **GREEDY)
    assert found["generated_text"] == pipe.model.generate_text(PROMPTS[0], max_new_tokens=6)
    assert len(found["scores"]) == 6


def both(head, folder, tmp_path, **changes):
    """Return transformers' model and ours with the same weights, and their tokenizer."""
    ours = gptj.load(folder, backend="torch", head=head, pad_token_id=50256, **changes)
    ours.save_pretrained(tmp_path)
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path)
    tokenizer.pad_token = tokenizer.eos_token
    theirs = getattr(transformers, type(ours).__name__).from_pretrained(tmp_path)
    return [theirs, ours], tokenizer


@pytest.mark.parametrize("head", ["base", "causal_lm"])
@pytest.mark.parametrize("batch", [1, 2])
def test_features_are_those_of_transformers(head, batch, tmp_path):
    models, tokenizer = both(head, short_demo(), tmp_path)
    expected, found = (
        transformers.pipeline("feature-extraction", model=model, tokenizer=tokenizer)(
            PROMPTS, batch_size=batch, return_tensors=True
        )
        for model in models
    )
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


LABELS = {0: "contradiction", 1: "neutral", 2: "entailment"}
NAMED = {"id2label": LABELS, "label2id": {name: index for index, name in LABELS.items()}}


@pytest.mark.parametrize(
    ("task", "options"),
    [
        ("text-classification", {"top_k": None}),
        ("text-classification", {"top_k": None, "batch_size": 2}),
        ("zero-shot-classification", {"candidate_labels": ["code", "music"]}),
        ("zero-shot-classification", {"candidate_labels": ["code", "x"], "multi_label": True}),
    ],
    ids=["one by one", "a batch", "zero-shot", "zero-shot of several labels"],
)
@pytest.mark.parametrize("whose", ["theirs", "ours"])
def test_labels_are_those_of_transformers(task, options, whose, tmp_path):
    models, tokenizer = both("sequence_classification", short_demo(), tmp_path, **NAMED)
    if whose == "ours":
        tokenizer = gptj.load_tokenizer(tmp_path)
    expected, found = (
        transformers.pipeline(task, model=model, tokenizer=tokenizer)(PROMPTS, **options)
        for model in models
    )
    assert scores(found) == pytest.approx(scores(expected), abs=1e-5)


def scores(results):
    """Return the scores of all results by text and label."""
    if "labels" in results[0]:
        results = [
            [{"label": label, "score": score} for label, score in zip(*pair, strict=True)]
            for pair in ((each["labels"], each["scores"]) for each in results)
        ]
    return {
        (row, each["label"]): each["score"] for row, texts in enumerate(results) for each in texts
    }


def test_an_output_is_one_of_transformers_and_compiles(pipe):
    ids = torch.tensor([[1, 2, 3]])
    output = pipe.model(ids)
    assert isinstance(output, transformers.utils.ModelOutput)
    compiled = torch.compile(pipe.model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(ids).logits, output.logits)
    doubled = torch.compile(lambda given: 2 * given.logits, backend="eager", fullgraph=True)
    assert torch.equal(doubled(output), 2 * output.logits)
