"""StableHLO: programs that ``jax.export`` writes, with the weights in a file beside them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Final, TypeAlias

import numpy as np

from gptj.exporting import example
from gptj.exporting.source import Source
from gptj.exporting.target import Floats, Ints, Runner, Target
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import HEADS
from gptj.spec.types import Tensor

FORWARD: Final = "forward.bin"
STEP: Final = "step.bin"
WEIGHTS: Final = "params.safetensors"

Params: TypeAlias = dict[str, Tensor]
Cache: TypeAlias = dict[str, Any]

PLATFORMS: Final = ("cpu", "cuda", "tpu")

CACHED: Final = ("base", "causal_lm")
"""The heads whose program with a cache is written too."""

READING: Final = """```python
import jax
import jax.numpy as jnp
from safetensors.flax import load_file
{imports}
{ids}ids = jnp.array([ids], jnp.int32)
params = load_file("params.safetensors")
program = jax.export.deserialize(open("{file}", "rb").read())
"""

OUTPUTS: Final = """\
print({name: value.shape for name, value in program.call(params, ids, jnp.ones_like(ids)).items()})
```

"""

TEXT: Final = """\
step = jax.jit(program.call, donate_argnums=1)

length = ids.shape[1] + 20
mask = jnp.ones((1, length), jnp.int32)  # of all tokens to come; zeros at padding on the left
empty = jnp.zeros(({n_layer}, 1, {n_head}, length, {head_dim}), jnp.{dtype})
cache = {{"keys": list(empty), "values": list(empty + 0), "length": jnp.int32(0)}}
new = ids
while ids.shape[1] < length:
    output = step(params, cache, new, mask)
    new, cache = output["logits"][:, -1:].argmax(-1).astype(jnp.int32), output["cache"]
    ids = jnp.hstack((ids, new))
{shown}```

`step.bin` takes the weights, a cache with room for any number of tokens up to the context, new
tokens (batch, new) and the mask of the whole cache (batch, room). """

ABOUT: Final = """\
`forward.bin` takes the weights, ids and mask, int32, (batch, length), padded on either side, and
returns {fields}. Both sizes are open; each new size is compiled once. The programs hold no weights
and run on CPU, CUDA and TPU.
"""


class StableHLO(Target):
    """What the backend flax computes, for open sizes and several platforms."""

    name = "stablehlo"
    summary = "JAX and others that run StableHLO"
    backend = "flax"
    heads = tuple(HEADS)
    dtypes = ("float32", "bfloat16", "float16")
    writers: ClassVar = {"jax": "jax", "flax": "flax", "flatbuffers": "flatbuffers"}
    runtime: ClassVar = {"jax": "jax", "flatbuffers": "flatbuffers"}

    def write(self, source: Source, folder: Path) -> None:
        """Trace the model for open sizes, and write its weights."""
        import jax
        from safetensors.flax import save_file

        model: Any = source.build("flax")
        flat = _flat(model.params)
        save_file(flat, folder / WEIGHTS)
        params = {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in flat.items()}
        with jax.default_matmul_precision("highest" if source.dtype == "float32" else None):
            content = _forward(model, source.fields, params)
            (folder / FORWARD).write_bytes(content)
            if source.head in CACHED:
                (folder / STEP).write_bytes(_step(model, source.fields[0], params))

    def open(self, folder: Path, source: Source) -> Runner:
        """Open the programs and the weights in JAX."""
        return StableHLORunner(folder, source.config, source.dtype)

    def usage(self, source: Source) -> str:
        """Return a program for JAX."""
        config, is_text = source.config, source.head == "causal_lm"
        about = ABOUT.format(fields=", ".join(source.fields))
        lines = {"imports": example.imports(source), "ids": example.ids(source)}
        reading = READING.format(file=STEP if is_text else FORWARD, **lines)
        if not is_text:
            return reading + OUTPUTS + about
        text = TEXT.format(
            n_layer=config.n_layer,
            n_head=config.n_head,
            head_dim=config.head_dim,
            dtype=source.dtype,
            shown=example.shown(source, "ids[0].tolist()"),
        )
        return reading + text + about


class StableHLORunner(Runner):
    """The programs, compiled for this machine."""

    def __init__(self, folder: Path, config: GPTJConfig, dtype: str) -> None:
        import jax
        from safetensors.flax import load_file

        self.config, self.dtype = config, dtype
        self.params = load_file(folder / WEIGHTS)
        files = [path for path in (folder / FORWARD, folder / STEP) if path.exists()]
        self.programs = {
            path.name: jax.jit(jax.export.deserialize(bytearray(path.read_bytes())).call)
            for path in files
        }

    def outputs(self, ids: Ints, mask: Ints) -> dict[str, Floats]:
        """Return what the first program does."""
        found = self.programs[FORWARD](self.params, ids.astype(np.int32), mask.astype(np.int32))
        return {name: np.asarray(value, np.float32) for name, value in found.items()}

    def cached(self, ids: Ints, mask: Ints, prefilled: int) -> Floats | None:
        """Return what the second program does, with a cache for all tokens."""
        if STEP not in self.programs:
            return None
        cache, found, start = self._empty(len(ids), ids.shape[1]), [], 0
        for end in range(prefilled, ids.shape[1] + 1):
            output = self._step(cache, ids[:, start:end], mask)
            cache, start = output.pop("cache"), end
            found += [np.asarray(value, np.float32) for value in output.values()]
        return np.concatenate(found, axis=1)

    def greedy(self, ids: Ints, count: int) -> Ints | None:
        """Return the most likely tokens, one call of the second program each."""
        length = ids.shape[1]
        mask = np.ones((len(ids), length + count), np.int64)
        cache, new = self._empty(*mask.shape), ids
        for _ in range(count):
            output = self._step(cache, new, mask)
            cache, new = output["cache"], np.asarray(output["logits"][:, -1:]).argmax(axis=-1)
            ids = np.hstack((ids, new))
        return ids[:, length:]

    def _step(self, cache: Cache, ids: Ints, mask: Ints) -> dict[str, Any]:
        found: dict[str, Any] = self.programs[STEP](
            self.params, cache, ids.astype(np.int32), mask.astype(np.int32)
        )
        return found

    def _empty(self, batch: int, room: int) -> Cache:
        import jax.numpy as jnp

        config = self.config
        shape = (batch, config.n_head, room, config.head_dim)

        def zeros() -> list[Any]:
            return [jnp.zeros(shape, self.dtype) for _ in range(config.n_layer)]

        return {"keys": zeros(), "values": zeros(), "length": jnp.int32(0)}


def _flat(params: Mapping[str, Any]) -> Params:
    from flax.traverse_util import flatten_dict

    flat: Params = flatten_dict(params, sep="/")
    return flat


def _forward(model: Any, fields: tuple[str, ...], params: Params) -> bytes:
    """Return the program of ids and mask, (batch, length)."""
    import jax
    from flax.traverse_util import unflatten_dict

    def forward(params: Params, ids: Tensor, mask: Tensor) -> dict[str, Tensor]:
        tree = unflatten_dict(params, sep="/")
        output = model(ids, attention_mask=mask, params=tree, use_cache=False, return_dict=True)
        return {name: output[name] for name in fields}

    limit = model.config.n_positions
    sizes = jax.export.symbolic_shape("batch, length", constraints=[f"length <= {limit}"])
    ids = jax.ShapeDtypeStruct(sizes, np.int32)
    return _written(forward, params, ids, ids)


def _step(model: Any, field: str, params: Params) -> bytes:
    """Return the program of a cache, new ids (batch, new) and the mask of all (batch, room)."""
    import jax
    from flax.traverse_util import unflatten_dict

    from gptj.backends.flax.cache import KVCache

    def step(params: Params, cache: Cache, ids: Tensor, mask: Tensor) -> dict[str, Any]:
        tree = unflatten_dict(params, sep="/")
        layers = zip(cache["keys"], cache["values"], strict=True)
        past = KVCache(list(layers), cache["length"], preallocated=True)
        output = model(
            ids, attention_mask=mask, past_key_values=past, params=tree, return_dict=True
        )
        after = output.past_key_values
        keys, values = ([layer[part] for layer in after.layers] for part in (0, 1))
        return {
            field: output[field],
            "cache": {"keys": keys, "values": values, "length": after.length},
        }

    config = model.config
    limits = ["new <= room", f"room <= {config.n_positions}"]
    batch, new, room = jax.export.symbolic_shape("batch, new, room", constraints=limits)
    shape = (batch, config.n_head, room, config.head_dim)
    layer = jax.ShapeDtypeStruct(shape, next(iter(params.values())).dtype)
    cache = {name: [layer] * config.n_layer for name in ("keys", "values")}
    length = jax.ShapeDtypeStruct((), np.int32)
    ids, mask = (jax.ShapeDtypeStruct((batch, size), np.int32) for size in (new, room))
    return _written(step, params, {**cache, "length": length}, ids, mask)


def _written(function: Callable[..., Any], *arguments: Any) -> bytes:
    import jax

    exported = jax.export.export(jax.jit(function), platforms=PLATFORMS)(*arguments)
    return bytes(exported.serialize())
