"""Training over several processes: FSDP (parameters in shards) and tensor parallelism.

The logical axes of the parameter table decide how a parameter is divided. Shapes are those of a
``DeviceMesh``; ``torchrun`` starts the processes.
"""

from typing import Any

from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import Replicate
from torch.distributed.tensor.parallel import (
    ColwiseParallel,
    ParallelStyle,
    RowwiseParallel,
    parallelize_module,
)

from gptj.backends.torch.pretrained import TorchPretrained
from gptj.errors import ArgumentError
from gptj.spec.params import DIVIDED, Parameter, parameter_table
from gptj.spec.quantization import check_trainable


def fsdp(model: TorchPretrained, mesh: DeviceMesh | None = None, **options: Any) -> TorchPretrained:
    """Shard parameters, gradients and optimizer state over all processes, block by block (FSDP2).

    Make the optimizer afterwards. Source: Zhao et al., arXiv:2304.11277.

    Args:
        mesh: of one dimension, or of two to replicate over the first; all processes if None.
        options: of ``torch.distributed.fsdp.fully_shard``, such as ``mp_policy``.

    Raises:
        UnsupportedFeature: for quantized weights.
    """
    check_trainable(model.config, "fsdp()")
    for block in model.get_base().h:
        fully_shard(block, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def tensor_parallel(model: TorchPretrained, mesh: DeviceMesh) -> TorchPretrained:
    """Divide every matmul over the processes of a mesh (tensor parallelism).

    Each computes some heads, some of the inner width and some of the vocabulary. Make the optimizer
    afterwards. A cache of `init_cache`, and so generation, needs a whole model. Source: Shoeybi et
    al., arXiv:1909.08053.

    Raises:
        ArgumentError: where the processes cannot share the heads or the inner width evenly.
        UnsupportedFeature: for quantized weights.
    """
    check_trainable(model.config, "tensor_parallel()")
    count, config = mesh.size(), model.config
    for name, size in (("n_head", config.n_head), ("n_inner", config.inner_dim)):
        if size % count:
            raise ArgumentError(
                f"{count} processes cannot share {name} = {size} evenly: take a divisor of it."
            )
    parallelize_module(model, mesh, tensor_parallel_plan(model))
    model.tie_weights()  # both modules had been given a piece each
    return model


shard_fully, split_products = fsdp, tensor_parallel  # the names in earlier versions


def tensor_parallel_plan(model: TorchPretrained) -> dict[str, ParallelStyle]:
    """Return the style of every divided module, by its name."""
    plan = {}
    for name, parameter in parameter_table(model.config, model.head).items():
        module, _, leaf = name.rpartition(".")
        style = _style(parameter, model.get_submodule(module)) if leaf == "weight" else None
        if style is not None:
            plan[module] = style
    return plan


def _style(parameter: Parameter, module: nn.Module) -> ParallelStyle | None:
    """Return how a module is divided, if at all; undivided modules get whole inputs."""
    if isinstance(module, nn.Embedding):
        return RowwiseParallel(input_layouts=Replicate(), output_layouts=Replicate())
    if parameter.axes[0] == "vocab":
        return ColwiseParallel(output_layouts=Replicate())
    if parameter.axes[0] in DIVIDED:
        return ColwiseParallel()
    return RowwiseParallel() if parameter.axes[-1] in DIVIDED else None
