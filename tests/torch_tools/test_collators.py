"""transformers' collators make batches with our tokenizer as with their own."""

import pytest
import torch
import transformers

import gptj

pytestmark = pytest.mark.frameworks

TEXTS = ["import os\n", "x = 1", "def f(x):\n    return x\n"]
COLLATORS = {
    "language model": lambda t: transformers.DataCollatorForLanguageModeling(t, mlm=False),
    "multiples of 8": lambda t: transformers.DataCollatorForLanguageModeling(
        t, mlm=False, pad_to_multiple_of=8
    ),
    "padding": transformers.DataCollatorWithPadding,
    "fixed": lambda t: transformers.DataCollatorWithPadding(t, "max_length", max_length=16),
    "labels of tokens": transformers.DataCollatorForTokenClassification,
    "labels of texts": transformers.DataCollatorForSeq2Seq,
    "default": lambda t: transformers.default_data_collator,
}


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    ours = gptj.load_tokenizer("demo")
    ours.save_pretrained(folder)
    gptj.GPTJConfig().save_pretrained(folder)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    theirs.pad_token = theirs.eos_token
    return theirs, ours


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", COLLATORS)
def test_a_batch_is_that_of_their_tokenizer(tokenizers, name, side):
    batches = []
    for tokenizer in tokenizers:
        tokenizer.padding_side = side
        rows = [dict(tokenizer(text)) for text in TEXTS]
        if name.startswith("labels"):
            rows = [{**row, "labels": row["input_ids"]} for row in rows]
        if name == "default":
            rows = [rows[1], rows[1]]
        batches.append(COLLATORS[name](tokenizer)(rows))
    assert batches[0].keys() == batches[1].keys()
    for key, values in batches[0].items():
        assert torch.equal(batches[1][key], values), key


def test_masked_language_models_are_refused_in_their_words(tokenizers):
    for tokenizer in tokenizers:
        with pytest.raises(ValueError, match="does not have a mask token"):
            transformers.DataCollatorForLanguageModeling(tokenizer, mlm=True)
