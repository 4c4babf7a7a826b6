"""One run of one system: its activations and gradients on disk, its loss, and what was left out."""

import gc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from gptj.contract.backend import Backend
from gptj.model.config import GPTJConfig
from gptj.model.loading import load_model
from gptj.model.pretrained import Pretrained
from gptj.parity import memory_needs
from gptj.parity.inputs import ParityBatch
from gptj.spec.heads import find_head
from gptj.spec.module_names import module_names
from gptj.spec.outputs import ModelOutput
from gptj.spec.params import parameter_table
from gptj.spec.reference import backward, forward
from gptj.spec.tensors import LazyTensor, Tensors

PROBS = "attn.probs"
"""The attention probabilities of a layer, which no module returns."""

NO_GRADIENTS = "not computed: quantized weights have none"


@dataclass(frozen=True)
class Task:
    """What every system runs: one head of one checkpoint on one batch.

    Attributes:
        checkpoint: what `gptj.load` takes.
        tensors: the parameters of the head, as handles on the files.
    """

    checkpoint: str | Path
    config: GPTJConfig
    head: str
    tensors: Tensors
    batch: ParityBatch


@dataclass
class Recording:
    """What one system computed.

    Attributes:
        name: the backend's, or ``"oracle"``.
        folder: one ``.npy`` per activation and gradient.
        loss: in nats, None where it was not computed.
        notes: what was not computed -> why.
    """

    name: str
    folder: Path
    loss: float | None = None
    notes: dict[str, str] = field(default_factory=dict)

    def keep(self, name: str, array: npt.ArrayLike, kind: str = "activation") -> None:
        """Write an array in float32, or float64 if that is what it is."""
        array = np.asarray(array)
        wide = array if array.dtype == np.float64 else array.astype(np.float32)
        np.save(self.folder / f"{kind}.{name}.npy", wide)

    def read(self, name: str, kind: str = "activation") -> npt.NDArray[Any] | None:
        """Return an array as a memory map, None where there is none."""
        path = self.folder / f"{kind}.{name}.npy"
        return np.load(path, mmap_mode="r") if path.exists() else None


def ordered_names(config: GPTJConfig, head: str) -> list[str]:
    """Return all that is compared in the order of computation: modules, and probabilities."""
    names = []
    for name in module_names(config, head):
        if name.endswith("attn.out_proj"):
            names.append(name.replace("attn.out_proj", PROBS))
        names.append(name)
    return names


def record_backend(task: Task, backend: Backend, dtype: str, folder: Path, free: int) -> Recording:
    """Run a checkpoint in one backend, and let the model go again."""
    recording = Recording(backend.name, folder)
    short = memory_needs.shortage(memory_needs.forward_bytes(task.config, task.head, dtype), free)
    if short:
        recording.notes["forward"] = short
        return recording
    model = load_model(backend, task.head, task.checkpoint, dtype=dtype)
    for name, array in _activations(backend, model, task.batch):
        recording.keep(name, array)
    why_not = _no_gradients(task, backend, dtype, free)
    if why_not:
        recording.notes["gradients"] = why_not
    else:
        tensors = _tensors(backend, model, task.batch.everything)
        recording.loss, gradients = backend.gradients(model, **tensors)
        for name, array in gradients.items():
            recording.keep(name, array, "gradient")
        del gradients
    del model
    gc.collect()
    return recording


def _no_gradients(task: Task, backend: Backend, dtype: str, free: int) -> str | None:
    """Return why a backend's gradients are left out, None where they are not."""
    if not task.batch.targets:
        return "not computed: the base model has no loss"
    if not backend.capabilities.gradients:
        return f"not computed: {backend.name} does not declare gradients"
    if task.config.is_quantized:
        return NO_GRADIENTS
    return memory_needs.shortage(memory_needs.gradient_bytes(task.config, task.head, dtype), free)


def _activations(
    backend: Backend, model: Pretrained, batch: ParityBatch
) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Yield the outputs of all modules; of blocks and head where a backend captures nothing.

    Of the head alone where it returns no inner outputs either.
    """
    prefix, inputs = find_head(model.head).prefix, _tensors(backend, model, batch.inputs)
    if backend.capabilities.capture:
        names = module_names(model.config, model.head)
        output, captured = backend.capture(model, names, **inputs)
        named = {name: captured[name] for name in names}
    else:
        wanted = backend.capabilities.inner_outputs
        flags = {"output_hidden_states": wanted, "output_attentions": wanted}
        output = backend.forward(model, **inputs, **flags)
        states = output.hidden_states or ()
        named = {f"{prefix}h.{layer}": x for layer, x in enumerate(states[1:-1])}
        named |= {
            f"{prefix}{name}": states[at] for name, at in (("wte", 0), ("ln_f", -1)) if states
        }
        yield from _of_head(backend, model.head, output)
    for name, tensor in named.items():
        yield name, backend.to_numpy(tensor)
    for layer, probs in enumerate(output.attentions or ()):
        yield f"{prefix}h.{layer}.{PROBS}", backend.to_numpy(probs)


def _of_head(
    backend: Backend, head: str, output: ModelOutput
) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Yield a model's output as that of its last module."""
    if head == "base":
        yield "ln_f", backend.to_numpy(output.last_hidden_state)
        return
    names = ("logits",) if "logits" in output else ("start_logits", "end_logits")
    arrays = [backend.to_numpy(output[name]) for name in names]
    yield find_head(head).modules[0], arrays[0] if len(arrays) == 1 else np.stack(arrays, axis=-1)


def _tensors(backend: Backend, model: Pretrained, arrays: Mapping[str, Any]) -> dict[str, Any]:
    return {name: backend.from_numpy(array, model) for name, array in arrays.items()}


def record_oracle(task: Task, dtype: str, folder: Path, free: int) -> Recording:
    """Run a checkpoint in float64 on the weights as they are in `dtype`, one layer at a time."""
    recording = Recording("oracle", folder)
    table = parameter_table(task.config, task.head)
    params = {
        name: _rounded(tensor, table[name].dtype or dtype) for name, tensor in task.tensors.items()
    }
    given = task.batch.everything
    compared = {*ordered_names(task.config, task.head)}

    def observe(name: str, output: npt.NDArray[Any]) -> None:
        if name in compared:
            recording.keep(name, output)

    output = forward(task.config, params, head=task.head, observe=observe, **given)
    recording.loss = output.loss
    if not task.batch.targets:
        return recording
    why_not = NO_GRADIENTS if task.config.is_quantized else None
    needed = memory_needs.oracle_gradient_bytes(task.config, task.head)
    why_not = why_not or memory_needs.shortage(needed, free)
    if why_not:
        recording.notes["gradients"] = why_not
        return recording
    _, gradients = backward(task.config, params, head=task.head, **given)
    for name, array in gradients.items():
        recording.keep(name, array, "gradient")
    return recording


def _rounded(tensor: LazyTensor, dtype: str) -> LazyTensor:
    """Return a handle on a weight as a model in `dtype` has it."""
    target = np.dtype(getattr(ml_dtypes, dtype) if dtype == "bfloat16" else dtype)
    return LazyTensor(tensor.shape, target, lambda: tensor.read().astype(target, copy=False))
