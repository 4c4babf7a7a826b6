"""A Keras model that goes out of scope is freed, with everything that was made for it."""

import ctypes
import gc
import os
import sys
import tempfile
import weakref
from pathlib import Path

import numpy as np
import pytest

import gptj
from models import short_tiny
from paths import TINY

tf = pytest.importorskip("tensorflow")

from gptj.backends.tf import shared_programs  # noqa: E402 (after the skip)
from gptj.backends.tf.kernels import half_precision, own_gradient  # noqa: E402
from gptj.backends.tf.optimizer import AdamW  # noqa: E402
from gptj.spec.update_rule import MicroBatch, UpdateRule  # noqa: E402

pytestmark = pytest.mark.frameworks

IDS = np.array([[1, 2, 3]] * 2)
TEXT = {"max_new_tokens": 3, "eos_token_id": None}


def fit(model):
    model.compile(optimizer=AdamW(1e-3))
    model.fit({"input_ids": IDS, "labels": IDS}, verbose=0)


def train(model):
    trainer = model.backend.trainer(model, UpdateRule(), "float32")
    rows = {"input_ids": IDS, "labels": IDS}
    trainer.step([MicroBatch(rows, 1.0)], 1e-3, 0)
    trainer.evaluate(rows, ["loss"])


USES = {
    "nothing": lambda model: None,
    "text": lambda model: model.generate(IDS, **TEXT),
    "beams": lambda model: model.generate(IDS, num_beams=2, **TEXT),
    "a stream": lambda model: list(model.stream_text("a", **TEXT)),
    "score": lambda model: model.score([1, 2, 3]),
    "trace": lambda model: model.trace(IDS, ["transformer.h.0.mlp"]),
    "predict": lambda model: model.predict({"input_ids": IDS}, verbose=0),
    "a graph": lambda model: tf.function(lambda ids: model(ids).logits, autograph=False)(IDS),
    "training": fit,
    "our trainer": train,
    "an export": lambda model: model.export(tempfile.mkdtemp(), verbose=False),
    "a conversion": lambda model: model.export(f"{tempfile.mkdtemp()}/m.tflite", "litert"),
}


def load(folder=None, **options):
    return gptj.load(folder or short_tiny(), backend="tf", **options)


def used(use, **options):
    """Use a new model, and return references to it and a weight that do not keep them.

    Its name is gone with this frame, of which TensorFlow's autograph may leave a copy behind.
    """
    model = load(**options)
    if options.get("quantize"):
        model.add_lora(2)
    USES[use](model)
    return weakref.ref(model), weakref.ref(model.weights[0].value)


def graphs():
    """Return how many graphs there are, of which each holds the variables that it reads."""
    gc.collect()
    return sum(type(one).__name__ == "FuncGraph" for one in gc.get_objects())


@pytest.mark.parametrize("use", USES)
def test_a_model_is_freed_with_what_was_compiled_for_it(use):
    used(use)  # the first may leave what later ones share
    before, programs = graphs(), len(shared_programs._programs)
    alive = used(use)
    assert graphs() <= before
    assert [one() for one in alive] == [None, None]
    assert len(shared_programs._programs) == programs


@pytest.mark.parametrize(
    ("use", "form"),
    [("predict", "bfloat16"), ("training", "int8"), ("a graph", "int8"), ("an export", "bfloat16")],
)
def test_a_graph_of_a_model_is_freed_in_every_form_of_weights(use, form, monkeypatch):
    monkeypatch.setattr(half_precision, "is_native", lambda dtype: False)
    own_gradient._graph.cache_clear()
    options = {"quantize": "int8"} if form == "int8" else {"dtype": form}
    used(use, **options)  # the first may leave what later ones share
    before = graphs()
    alive = used(use, **options)
    assert graphs() <= before
    assert [one() for one in alive] == [None, None]


FORMS = ("float32", "bfloat16", "int8")


def resident_in_mb():
    """Return the memory of the process, without what glibc holds free and can give back."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE") / 1e6


SMALL = [(use, form) for use in ("nothing", "text", "score", "trace") for form in FORMS]
SMALL += [(use, form) for use in ("predict", "an export") for form in ("float32", "bfloat16")]
SMALL += [(use, "float32") for use in ("beams", "a stream", "training", "our trainer")]
SMALL += [("our trainer", "int8")]
"""Uses that leave next to nothing; `predict` in int8 leaves half a megabyte of TensorFlow's."""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks glibc")
@pytest.mark.parametrize(("use", "form"), SMALL)
def test_twenty_models_in_turn_leave_less_than_20_mb(use, form):
    """The first ten or twenty leave up to 40 MB free between what is in use; then no more."""
    options = {"quantize": "int8"} if form == "int8" else {"dtype": form}

    def once():
        model = gptj.load("demo", backend="tf", **options)
        if (use, form) == ("our trainer", "int8"):
            model.add_lora(2)
        USES[use](model)

    for _ in range(20):
        once()
    before = resident_in_mb()
    for _ in range(20):
        once()
    assert resident_in_mb() - before < 20


def test_names_of_variables_are_those_of_every_model():
    first, second = load(), load()
    assert [w.value.name for w in first.weights] == [w.value.name for w in second.weights]
    assert first.name != second.name
    assert first.weights[0].path != second.weights[0].path


def test_names_of_moments_are_those_of_every_optimizer():
    names = []
    for model in (load(), load()):
        optimizer = AdamW(1e-3)
        optimizer.build(model.trainable_variables)
        names.append({variable.value.name for variable in optimizer.variables[2:]})
    assert names == [{"momentum:0", "velocity:0"}] * 2


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_program_computes_with_the_weights_of_the_model_that_runs_it(dtype):
    model, other = (load(dtype=dtype) for _ in range(2))
    model.generate(IDS, **TEXT)
    for variable in other.weights:
        variable.assign(variable * 1.5 + 0.1)
    expected = other.generate(IDS, **TEXT, renormalize_logits=True)  # by the reference decoder
    np.testing.assert_array_equal(other.generate(IDS, **TEXT), expected)


def test_a_model_with_a_layer_of_its_user_has_a_program_of_its_own():
    class Doubled(type(load().lm_head)):
        def call(self, x, table=None):
            return -super().call(x, table)

    model = load()
    first = model.generate(IDS, **TEXT).numpy()
    model.lm_head.__class__ = Doubled
    model.functions.compiled.clear()
    assert (model.generate(IDS, **TEXT).numpy() != first).any()


def replace_method(model):
    layer = model.transformer.h[0].mlp
    own = layer.call
    layer.call = lambda x, *args, **options: -own(x, *args, **options)


def swap_blocks(model):
    blocks = model.transformer.h
    blocks[0], blocks[1] = blocks[1], blocks[0]


@pytest.mark.parametrize(("change", "is_first"), [(replace_method, True), (swap_blocks, False)])
def test_a_changed_model_shares_no_program_with_others(change, is_first, monkeypatch):
    monkeypatch.setattr(shared_programs, "_programs", {})
    plain, changed = load(TINY), load(TINY)  # with two blocks
    change(changed)
    order = [changed, plain] if is_first else [plain, changed]
    found = [model.generate(IDS, **TEXT).numpy() for model in order]
    expected = [model.generate(IDS, **TEXT, renormalize_logits=True).numpy() for model in order]
    np.testing.assert_array_equal(found, expected)  # those of the reference decoder
    assert (found[0] != found[1]).any()


def trained(model, rule=None, seeds=(1, 2)):
    """Train a model; return losses and norms, and all its variables."""
    trainer = model.backend.trainer(model, rule or UpdateRule(), "float32")
    rows = {"input_ids": IDS, "labels": IDS}
    parts = [MicroBatch(rows, 0.5)] * 2
    found = [trainer.step(parts, 1e-2, seed) for seed in seeds]
    return found, [variable.numpy() for variable in model.variables]


def dropping(**rates):
    config = gptj.GPTJConfig.from_dict({**load().config.to_dict(), **rates})
    return type(load())(config, seed=3)


KINDS = {
    "dropout": lambda: dropping(resid_pdrop=0.3),
    "an adapter": lambda: load().add_lora(2, dropout=0.3),
}


@pytest.mark.parametrize("kind", KINDS)
def test_trainings_of_one_kind_share_their_programs(kind, monkeypatch):
    monkeypatch.setattr(shared_programs, "_programs", {})
    first = KINDS[kind]()
    found = trained(first)
    alive = weakref.ref(first)
    del first
    gc.collect()
    assert alive() is None
    assert len(shared_programs._programs) == 2  # gradients and update
    again = trained(KINDS[kind]())
    assert len(shared_programs._programs) == 2
    monkeypatch.setattr(shared_programs, "_programs", {})
    alone = trained(KINDS[kind]())
    assert again[0] == alone[0] == found[0]
    for one, other in zip(again[1], alone[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_evaluations_of_one_kind_share_their_program(monkeypatch):
    monkeypatch.setattr(shared_programs, "_programs", {})
    for scale in (1.0, 1.5):
        model = load()
        for variable in model.trainable_variables:
            variable.assign(variable * scale)
        trainer = model.backend.trainer(model, UpdateRule(), "float32")
        found = trainer.evaluate({"input_ids": IDS, "labels": IDS}, ["loss"])["loss"]
        np.testing.assert_allclose(found, model(IDS, labels=IDS).loss, rtol=1e-5)
    assert len(shared_programs._programs) == 1


OTHERS = {
    "another rule": lambda: trained(load(), UpdateRule(max_norm=0.01)),
    "other betas": lambda: trained(load(), UpdateRule(betas=(0.5, 0.9))),
    "an adapter": lambda: trained(load().add_lora(2, seed=1)),
    "another alpha": lambda: trained(load().add_lora(2, alpha=3, seed=1)),
}


def test_trainings_of_other_kinds_do_not_share_their_updates_or_gradients(monkeypatch):
    monkeypatch.setattr(shared_programs, "_programs", {})
    found = [str(run()[0]) for run in OTHERS.values()]
    assert len(set(found)) == len(OTHERS)
    assert len(shared_programs._programs) == 2 * len(OTHERS)


def test_text_of_models_with_adapters_is_that_of_each(monkeypatch):
    monkeypatch.setattr(shared_programs, "_programs", {})
    models = [load().add_lora(2, alpha=alpha) for alpha in (16, 16, 99, 99)]
    for scale, model in enumerate(models):
        for variable in model.trainable_variables:
            variable.assign(variable + 0.3 * scale)
    models[-1].merge_lora()
    for model in models:
        expected = model.generate(IDS, **TEXT, renormalize_logits=True)  # by the reference decoder
        np.testing.assert_array_equal(model.generate(IDS, **TEXT), expected)
    assert len(shared_programs._programs) == 3  # the first two share theirs
