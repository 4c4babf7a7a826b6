"""Rows that have ended leave the batch in PyTorch's loop, and the others stay as they are."""

import numpy as np
import pytest

from gptj import GPTJConfig

torch = pytest.importorskip("torch")

ENDS = list(range(40, 61))
"""A third of the vocabulary, so that rows end at different steps."""
ROWS, NEW = 12, 16


@pytest.fixture(scope="module")
def model():
    from gptj import GPTJForCausalLM

    shape = {"vocab_size": 61, "n_embd": 16, "n_layer": 2, "n_head": 2, "rotary_dim": 4}
    config = GPTJConfig(**shape, n_positions=32, bos_token_id=1, eos_token_id=2)
    return GPTJForCausalLM(config, seed=5).eval()


def written(model, **options):
    ids = torch.arange(ROWS * 5).reshape(ROWS, 5) % 40
    mask = torch.ones_like(ids)
    mask[::3, :2] = 0
    return model.generate(
        ids, attention_mask=mask, max_new_tokens=NEW, eos_token_id=ENDS, pad_token_id=3, **options
    )


@pytest.mark.parametrize("options", [{"do_sample": True, "seed": s} for s in (0, 1, 2)], ids=str)
def test_the_text_is_that_of_the_driver_which_keeps_all_rows(model, options):
    found = written(model, **options)
    driver = written(model, **options, return_dict_in_generate=True).sequences
    assert torch.equal(found, driver)
    lengths = (found[:, 5:] != 3).sum(1)
    assert len(set(lengths.tolist())) > 2, "all rows end at once, so this shows nothing"


def test_the_batch_becomes_smaller(model):
    sizes = []
    hook = model.transformer.register_forward_hook(
        lambda module, args, output: sizes.append(output.last_hidden_state.shape[0])
    )
    written(model, do_sample=True, seed=0)
    hook.remove()
    assert sizes[0] == ROWS and sizes == sorted(sizes, reverse=True)
    assert sizes[-1] <= ROWS // 2
    lost = np.diff(sizes)
    assert (lost[lost != 0] <= -1).all()
