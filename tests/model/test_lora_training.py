"""Training an adapter: nothing else moves, in the loops that users of each framework write."""

import numpy as np
import pytest

import gptj
from gptj.errors import ArgumentError
from gptj.spec.lora import LoraConfig
from lora_cases import IDS, SMALL, adapted, plain
from models import run

pytestmark = pytest.mark.frameworks

DROPPING = LoraConfig(rank=3, alpha=6, dropout=0.5)


def step_torch(model, ids):
    """Train one step, and return the names and shapes of what the optimizer keeps."""
    import torch

    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    ids = torch.from_numpy(ids)
    model(ids, labels=ids).loss.backward()
    optimizer.step()
    return sorted(tuple(slots["exp_avg"].shape) for slots in optimizer.state.values())


def step_tf(model, ids):
    import keras

    model.compile(keras.optimizers.AdamW(1e-2), jit_compile=True)
    model.fit({"input_ids": ids, "labels": ids}, batch_size=len(ids), verbose=0)
    return sorted(tuple(slot.shape)[::-1] for slot in model.optimizer._momentums)


def step_flax(model, ids):
    import jax
    import optax

    optimizer, lora = optax.adamw(1e-2), model.params["lora"]
    state = optimizer.init(lora)

    @jax.jit
    def update(params, lora, state):
        def loss(lora):
            return model(ids, params={**params, "lora": lora}, labels=ids).loss

        changes, state = optimizer.update(jax.grad(loss)(lora), state, lora)
        return optax.apply_updates(lora, changes), state

    with jax.numpy_dtype_promotion("standard"):  # which Optax needs
        lora, state = update(model.params, lora, state)
    model.params = {**model.params, "lora": lora}
    return sorted(leaf.shape[::-1] for leaf in jax.tree.leaves(state[0].mu))


STEP = {"torch": step_torch, "tf": step_tf, "flax": step_flax}


def test_one_step_changes_the_adapter_alone_and_the_optimizer_knows_no_more(framework):
    model = adapted(framework.name)
    weights = {n: np.array(t.read()) for n, t in framework.dump_params(model).items()}
    before = {n: np.array(t.read()) for n, t in framework.dump_adapter(model).items()}
    kept = STEP[framework.name](model, IDS)
    assert kept == sorted(array.shape for array in before.values())
    after = framework.dump_adapter(model)
    assert not any(np.array_equal(before[name], after[name].read()) for name in before)
    same = framework.dump_params(model)
    assert all(np.array_equal(weights[name], same[name].read()) for name in weights)


def test_after_removal_everything_is_trained_again(framework):
    model = plain(framework.name).add_lora().remove_lora()
    if framework.name == "torch":
        assert all(parameter.requires_grad for parameter in model.parameters())
    elif framework.name == "tf":
        assert len(model.trainable_variables) == len(framework.dump_params(model))
    else:
        assert "lora" not in model.params


def train_outputs(model, seed):
    """Return the logits of a call in training."""
    name = model.backend_name
    if name == "torch":
        import torch

        torch.manual_seed(seed)
        return model.train()(torch.from_numpy(IDS)).logits.detach().numpy()
    if name == "tf":
        return model(IDS, training=True).logits.numpy()
    import jax

    return np.asarray(model(IDS, train=True, dropout_rng=jax.random.key(seed)).logits)


def test_dropout_of_an_adapter_acts_in_training_alone(framework):
    model = adapted(framework.name, DROPPING)
    expected = run(framework, adapted(framework.name), input_ids=IDS).logits
    assert np.array_equal(run(framework, model, input_ids=IDS).logits, expected)
    dropped = [train_outputs(model, seed) for seed in (1, 2)]
    assert not np.array_equal(dropped[0], dropped[1])
    assert not np.array_equal(dropped[0], expected)


def test_dropout_leaves_an_adapter_its_mean(torch_backend):
    """What is kept is scaled up; the mean of many draws is the output without dropout."""
    import torch

    model = adapted("torch", DROPPING)
    adapter = model.transformer.h[0].attn.q_proj.adapter
    x = torch.ones(4000, 40)
    expected = adapter.eval()(x[:1])
    torch.manual_seed(0)
    mean = adapter.train()(x).mean(dim=0)
    assert torch.allclose(mean, expected[0], atol=0.15)


def test_dropout_in_jax_needs_a_key(flax_backend):
    model = adapted("flax", DROPPING)
    with pytest.raises(ArgumentError, match="train=True needs dropout_rng"):
        model(IDS, train=True)


def test_torch_compiles_a_model_with_an_adapter_as_one_graph(torch_backend):
    import torch

    model = adapted("torch")
    ids = torch.from_numpy(IDS)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(ids).logits, model(ids).logits)
    model.merge_lora()
    assert torch.equal(compiled(ids).logits, model(ids).logits)


def test_keras_saves_and_loads_a_model_with_its_adapter(tf_backend, tmp_path):
    import keras

    model = adapted("tf")
    expected = run(tf_backend, model, input_ids=IDS).logits
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.lora == model.lora
    assert np.array_equal(run(tf_backend, loaded, input_ids=IDS).logits, expected)
    with pytest.raises(ArgumentError, match=r"merged adapter. Call unmerge_lora\(\) first"):
        model.merge_lora().save(tmp_path / "merged.keras")


def test_keras_predicts_with_what_the_model_is_at_the_moment(tf_backend):
    model = plain("tf")
    before = model.predict(IDS, verbose=0)["logits"]
    tf_backend.add_adapter(model, SMALL, tf_backend.dump_adapter(adapted("tf")))
    assert not np.array_equal(model.predict(IDS, verbose=0)["logits"], before)


def test_a_tree_of_adapters_that_does_not_fit_is_refused(flax_backend):
    model = adapted("flax")
    other = adapted("flax", n_embd=32, rotary_dim=4)
    with pytest.raises(ArgumentError, match=r"params\['lora'\] is not an adapter of this causal"):
        model.params = {**model.params, "lora": other.params["lora"]}


def test_a_call_in_jax_takes_its_adapter_from_the_parameters_it_is_given(flax_backend, tmp_path):
    model = adapted("flax")
    base = {name: tree for name, tree in model.params.items() if name != "lora"}
    expected = run(flax_backend, plain("flax"), input_ids=IDS).logits
    assert np.array_equal(np.asarray(model(IDS, params=base).logits), expected)
    new = gptj.add_lora(plain("flax"), rank=3).params
    assert np.array_equal(np.asarray(model(IDS, params=new).logits), expected)
    model.save_lora(tmp_path, params=new)
    loaded = plain("flax").load_lora(tmp_path)
    assert np.array_equal(np.asarray(loaded(IDS).logits), expected)


def test_a_new_head_is_trained_with_the_adapter(framework):
    head = "sequence_classification"
    found = framework.dump_adapter(plain(framework.name, head).add_lora())
    assert "score.weight" in found
    alone = plain(framework.name, head).add_lora(modules_to_save=())
    assert "score.weight" not in framework.dump_adapter(alone)
