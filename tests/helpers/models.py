"""Small models for the tests, each loaded once per backend, and one way to run them all."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from gptj.backends import get_backend
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.saving import save_checkpoint
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.model.loading import load_model
from gptj.spec.outputs import ModelOutput
from gptj.spec.params import parameter_table
from gptj.spec.reference import forward
from gptj.spec.tensors import LazyTensor
from paths import SOURCE, TINY

DEMO = SOURCE / "data" / "demo"
ALL_FIELDS = {"output_hidden_states": True, "output_attentions": True}


@cache
def tiny_config(**changes):
    """Return the configuration of ``weights/tiny``, with changes."""
    return GPTJConfig.from_json_file(TINY / "config.json", **changes)


@cache
def tiny_weights(head="causal_lm", **changes):
    """Return float32 arrays for a variant of ``weights/tiny``, every one redrawn."""
    config = tiny_config(**changes)
    generator = np.random.Generator(np.random.PCG64(17))
    weights = {}
    for name, parameter in parameter_table(config, head).items():
        centre = 1.0 if parameter.kind == "norm_weight" else 0.0
        drawn = centre + 0.3 * generator.standard_normal(parameter.shape)
        weights[name] = drawn.astype(np.float32)
    return weights


@cache
def tiny_model(backend_name, head="causal_lm", dtype="float32", **changes):
    """Return a variant of the tiny model in one backend."""
    tensors = {name: LazyTensor.of(w) for name, w in tiny_weights(head, **changes).items()}
    config = GPTJConfig.from_dict(tiny_config(**changes).to_dict())
    return get_backend(backend_name).build(config, head, params=tensors, dtype=dtype, device=None)


_temporary = TemporaryDirectory(prefix="gptj-short-models-")


@cache
def short_demo():
    """Return a folder with the first two layers of the demo, which compile in a third of the time.

    For what reads and writes text, but does not ask what the text says.
    """
    return _first_layers(DEMO, 2)


@cache
def short_tiny():
    """Return a folder with the first layer of the tiny model, for what compiles many times."""
    return _first_layers(TINY, 1)


def _first_layers(folder, count):
    """Write a folder with just so many layers of another."""
    checkpoint, target = open_checkpoint(folder), Path(_temporary.name) / folder.name
    config = GPTJConfig.from_dict({**checkpoint.config(), "n_layer": count})
    tensors = {name: checkpoint.tensors[name] for name in parameter_table(config, "causal_lm")}
    target.mkdir()
    save_checkpoint(target, config, GenerationConfig.from_model(config), tensors)
    return target


@cache
def load(backend_name, folder, head="causal_lm"):
    """Return the model of a checkpoint folder in one backend."""
    return load_model(get_backend(backend_name), head, folder)


@cache
def checkpoint_weights(folder):
    """Return the configuration and the tensors of a checkpoint folder."""
    checkpoint = open_checkpoint(Path(folder))
    return GPTJConfig.from_dict(checkpoint.config()), checkpoint.tensors


def run(backend, model, **inputs):
    """Run a model on arrays, and return its output as arrays."""
    tensors = {
        name: backend.from_numpy(value, model) if isinstance(value, np.ndarray) else value
        for name, value in inputs.items()
    }
    return on_host(backend, backend.forward(model, **tensors))


def on_host(backend, output):
    """Return an output with its tensors as arrays; a cache stays as it is."""

    def convert(name, value):
        if name == "past_key_values":
            return value
        if isinstance(value, tuple):
            return tuple(backend.to_numpy(item) for item in value)
        return backend.to_numpy(value)

    return ModelOutput((name, convert(name, value)) for name, value in output.items())


def oracle(head="causal_lm", changes=(), **inputs):
    """Run the oracle on a variant of the tiny model."""
    changes = dict(changes)
    return forward(tiny_config(**changes), tiny_weights(head, **changes), head=head, **inputs)


def draw_ids(shape, seed=0, vocab=96):
    """Draw token ids that no padding token is among."""
    return np.random.Generator(np.random.PCG64(seed)).integers(0, vocab - 1, shape)
