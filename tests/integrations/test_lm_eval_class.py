"""The class for lm-eval, on every backend, around the parts of lm-eval that it touches.

`tests/torch_tools` runs it in lm-eval itself, whose environment has PyTorch alone.
"""

import importlib
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType, SimpleNamespace

import pytest

from letters import LETTERS, letters_tokenizer
from models import tiny_model
from paths import TINY
from score_cases import CONTEXT, END, expected

pytestmark = pytest.mark.frameworks

OWN = "gptj.integrations.lm_eval"
PAIRS = [("def f(", "x):"), ("a", "b"), ("import numpy", " as np")]


class Noting:
    """lm-eval's cache of answers, which gets each as soon as it is known."""

    def __init__(self):
        self.noted = {}

    def add_partial(self, kind, given, answer):
        self.noted[kind, str(given)] = answer


class Base:
    """lm-eval's own base of models."""

    def __init__(self):
        self.cache_hook = Noting()


PARTS = {
    "lm_eval": {"simple_evaluate": None},
    "lm_eval.api": {},
    "lm_eval.api.instance": {"Instance": None},
    "lm_eval.api.model": {"LM": Base},
    "lm_eval.api.registry": {"register_model": lambda name: lambda made: made},
    "lm_eval.tasks": {"TaskManager": object},
    "lm_eval.utils": {"handle_non_serializable": None, "make_table": None},
}


@pytest.fixture
def harness(monkeypatch):
    """Return the class, with a stand-in for lm-eval."""
    for name, parts in PARTS.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(parts)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, OWN, raising=False)
    yield importlib.import_module(OWN).GPTJ
    del sys.modules[OWN]


@pytest.fixture
def model(harness, framework):
    own = {"tokenizer": letters_tokenizer(), "batch_size": 2, "max_gen_toks": 4}
    return harness(tiny_model(framework.name), **own)


def asked(*given):
    return [SimpleNamespace(args=arguments) for arguments in given]


def test_pairs_are_answered_in_order_and_noted(model):
    found = model.loglikelihood(asked(*PAIRS), disable_tqdm=True)
    for (context, added), (likelihood, _) in zip(PAIRS, found, strict=True):
        wanted = sum(expected(LETTERS.encode(context + added), len(context)))
        assert likelihood == pytest.approx(wanted, abs=1e-3)
    assert model.cache_hook.noted == {
        ("loglikelihood", str(pair)): answer for pair, answer in zip(PAIRS, found, strict=True)
    }


def test_whole_texts_and_continuations_are_answered(model):
    texts = ["import os", "x"]
    found = model.loglikelihood_rolling(asked(*[(text,) for text in texts]))
    wanted = [sum(expected([END, *LETTERS.encode(text)])) for text in texts]
    assert found == pytest.approx(wanted, abs=1e-3)
    written = model.generate_until(asked(("abc", {"until": []}), ("x", {"max_gen_toks": 2})))
    alone = model.model.generate_text("abc", tokenizer=model.tokenizer, max_new_tokens=4)
    assert "abc" + written[0] == alone
    assert len(written) == 2 and len(written[1]) <= 2


def test_a_model_is_loaded_by_its_name_on_the_backend(harness, framework):
    model = harness(TINY, tokenizer=letters_tokenizer(), backend=framework.name)
    assert model.get_model_info()["model_backend"] == framework.name
    assert model.max_length == CONTEXT and model.tokenizer_name == str(TINY.resolve())
    assert model.eot_token_id == model.prefix_token_id == END
