"""Computing the insides of blocks twice changes what is kept, and nothing else."""

import numpy as np
import pytest

from gptj.errors import GPTJError
from gptj.spec.tensors import LazyTensor
from models import draw_ids, tiny_config, tiny_model, tiny_weights

pytestmark = pytest.mark.frameworks

IDS = draw_ids((2, 24), seed=81)
MASK = np.ones_like(IDS)
MASK[1, :5] = 0


def model_of(torch_backend, **changes):
    config = tiny_config(**changes)
    params = {name: LazyTensor.of(array) for name, array in tiny_weights(**changes).items()}
    return torch_backend.build(config, "causal_lm", params=params).train()


def step(model, ids=IDS):
    """Return loss, gradients and bytes that were kept between the two passes."""
    import torch

    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    torch.manual_seed(0)
    model.zero_grad()
    tensors = {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(MASK)}
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        loss = model(**tensors, labels=torch.tensor(ids)).loss
    held = sum(kept.values())
    loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    return loss.detach(), gradients, held


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_stay_and_less_is_kept(torch_backend, dropout):
    import torch

    changes = {"resid_pdrop": dropout, "attn_pdrop": dropout, "embd_pdrop": dropout, "n_layer": 4}
    model = model_of(torch_backend, **changes)
    loss, gradients, held = step(model)
    model.gradient_checkpointing_enable()
    loss_again, gradients_again, held_again = step(model)
    torch.testing.assert_close(loss_again, loss)
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradients_again[name], gradient, msg=name)
    assert held_again < 0.6 * held
    model.gradient_checkpointing_disable()
    assert step(model)[2] == held


def test_nothing_is_computed_twice_outside_training(torch_backend):
    import torch

    model = model_of(torch_backend).eval()
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    output = model(torch.tensor(IDS), use_cache=True)
    assert output.past_key_values.length == IDS.shape[1]


def test_it_works_in_one_compiled_graph(torch_backend):
    import torch

    model = model_of(torch_backend)
    loss, gradients, _ = step(model)
    model.gradient_checkpointing_enable()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    model.zero_grad()
    ids = torch.tensor(IDS)
    found = compiled(ids, attention_mask=torch.tensor(MASK), labels=ids).loss
    found.backward()
    torch.testing.assert_close(found.detach(), loss)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], msg=name)


# -- JAX -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_gradients_in_jax_stay_and_less_is_kept(flax_backend, capsys, dropout):
    import jax
    from jax.ad_checkpoint import print_saved_residuals

    changes = {"resid_pdrop": dropout, "attn_pdrop": dropout, "n_layer": 4}
    params = {name: LazyTensor.of(array) for name, array in tiny_weights(**changes).items()}
    model = flax_backend.build(tiny_config(**changes), "causal_lm", params=params)

    def loss(params):
        rng = {"dropout_rng": jax.random.key(0), "train": True}
        return model(IDS, MASK, params=params, labels=IDS, **rng).loss

    def gradients():
        """Return gradients, and how many values are kept for them: XLA on a CPU keeps all."""
        print_saved_residuals(loss, model.params)
        return jax.grad(loss)(model.params), len(capsys.readouterr().out.splitlines())

    found, kept = gradients()
    model.gradient_checkpointing_enable()
    again, kept_again = gradients()
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), again, found)
    assert kept_again < 0.6 * kept
    model.gradient_checkpointing_disable()
    assert gradients()[1] == kept


def test_jax_computes_every_block_twice_and_no_part_of_them(flax_backend):
    model = tiny_model("flax")
    model.gradient_checkpointing_enable(every_n_layers=1)
    with pytest.raises(GPTJError, match="leave out every_n_layers"):
        model.gradient_checkpointing_enable(every_n_layers=2)


@pytest.mark.parametrize("options", [{}, {"every_n_layers": 2}, {"use_reentrant": True}], ids=str)
def test_a_trainers_way_of_asking_gives_the_same_gradients(torch_backend, options):
    usual, model = model_of(torch_backend), model_of(torch_backend)
    every = options.pop("every_n_layers", 1)
    model.activation_checkpointing_enable(options or None, every_n_layers=every, offload=False)
    assert model.is_gradient_checkpointing and not usual.is_gradient_checkpointing
    expected, found = step(usual), step(model)
    assert found[0] == expected[0]
    assert all(np.array_equal(found[1][name], expected[1][name]) for name in expected[1])
    assert found[2] < expected[2]


def test_reentrant_checkpointing_reaches_an_adapter_behind_a_frozen_table(torch_backend):
    model = model_of(torch_backend).add_lora(rank=2, seed=1)
    model.gradient_checkpointing_enable({"use_reentrant": True})
    model(IDS, labels=IDS).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gradient_checkpointing_kwargs": {"reentrant": True}}, "has no argument 'reentrant'"),
        ({"every_n_layers": 0}, "every_n_layers must be a positive integer; found 0"),
        ({"offload": True}, "leave out offload=True"),
    ],
    ids=["kwargs", "every_n_layers", "offload"],
)
def test_what_checkpointing_does_not_do_is_refused(torch_backend, options, message):
    with pytest.raises(GPTJError, match=message):
        model_of(torch_backend).gradient_checkpointing_enable(**options)
