"""PyTorch models that their users have changed: what no file has a place for is not dropped."""

import copy

import pytest

import gptj
from gptj.errors import UnsupportedFeature
from models import draw_ids, tiny_model
from paths import TINY

torch = pytest.importorskip("torch")
prune = pytest.importorskip("torch.nn.utils.prune")
nn = torch.nn

pytestmark = pytest.mark.frameworks

IDS = draw_ids((2, 7), seed=52)


class Scaled(nn.Module):
    """A layer around a layer, which looks like it and has a number of its own."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.factor = inner, nn.Parameter(torch.tensor(0.7))

    weight = property(lambda self: self.inner.weight)
    bias = property(lambda self: self.inner.bias)

    def forward(self, x):
        return self.inner(x) * self.factor


@pytest.fixture
def model(torch_backend):
    return copy.deepcopy(tiny_model("torch"))


def refused(model, tmp_path, message):
    with pytest.raises(UnsupportedFeature, match=message):
        model.save_pretrained(tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_layer_around_a_layer_is_not_saved_without_what_it_adds(model, tmp_path):
    attention = model.transformer.h[0].attn
    attention.q_proj = Scaled(attention.q_proj)
    refused(model, tmp_path, "no place for: transformer.h.0.attn.q_proj.factor. Save")
    with pytest.raises(UnsupportedFeature, match="q_proj is a Scaled"):
        model.add_lora(rank=2)
    assert model.lora is None and all(weight.requires_grad for weight in model.parameters())


def test_blocks_beyond_the_configuration_are_not_dropped(model, tmp_path):
    model.config.n_layer = 1
    refused(model, tmp_path, r"no place for: transformer\.h\.1\..* more")


def test_a_block_that_was_taken_out_is_missed(model, tmp_path):
    model.transformer.h = model.transformer.h[:1]
    refused(model, tmp_path, r"no parameter transformer\.h\.1\..* change the configuration")


def test_a_pruned_layer_is_made_permanent_first(model, tmp_path):
    layer = model.transformer.h[0].mlp.fc_in
    prune.l1_unstructured(layer, "weight", amount=0.5)
    refused(model, tmp_path, r"no parameter transformer\.h\.0\.mlp\.fc_in\.weight.*prune.remove")
    prune.remove(layer, "weight")
    model.save_pretrained(tmp_path / "model")
    loaded = gptj.load(tmp_path / "model", backend="torch")
    torch.testing.assert_close(loaded(IDS).logits, model.eval()(IDS).logits)


def test_a_shape_that_is_not_the_configurations_is_named(model, tmp_path):
    model.config.vocab_size += 4
    refused(model, tmp_path, "has the shape .* but the configuration means")


@pytest.mark.filterwarnings("ignore:There is a performance drop:UserWarning")
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_gradients_of_functions_over_parameters_are_those_of_backward(torch_backend, attention):
    model = gptj.load(TINY, backend="torch", attn_implementation=attention)
    params = {name: value.detach() for name, value in model.named_parameters()}
    ids = torch.as_tensor(IDS)

    def loss(params, ids):
        return torch.func.functional_call(model, params, (ids,), {"labels": ids}).loss

    found = torch.func.grad(loss)(params, ids)
    each = torch.func.vmap(torch.func.grad(loss), (None, 0))(params, ids[:, None])
    wanted = torch.autograd.grad(model(ids, labels=ids).loss, list(model.parameters()))
    for name, gradient in zip(params, wanted, strict=True):
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(each[name].mean(0), gradient, rtol=1e-4, atol=1e-5)
