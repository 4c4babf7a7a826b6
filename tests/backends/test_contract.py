"""The contract that backends fulfil, with refusals in the place of what they do not declare."""

import pytest

from gptj.backends import get_backend
from gptj.backends.base import Backend
from gptj.errors import UnsupportedFeature
from gptj.model import options

pytestmark = pytest.mark.frameworks


KEYWORDS = {
    "torch": options.TorchOptions,
    "tf": options.TFOptions,
    "flax": options.FlaxOptions,
    "onnxruntime": options.EngineOptions,
}
"""What type checkers know of the options of a backend."""


def test_every_backend_fulfils_the_contract(backend):
    assert isinstance(backend, Backend)


@pytest.mark.parametrize("method", ["decode", "stream", "add_adapter", "dump_optimizer", "trainer"])
def test_a_backend_refuses_what_it_does_not_declare(method):
    with pytest.raises(UnsupportedFeature, match="backend 'oracle' cannot do this"):
        getattr(get_backend("oracle"), method)("model", plan=None)


def test_type_checkers_know_the_options_of_a_backend(framework):
    own = KEYWORDS.get(framework.name, options.LoadOptions)
    known = {*own.__annotations__} - {*options.LoadOptions.__annotations__}
    assert known | {"seed"} == {*framework.build_options}
