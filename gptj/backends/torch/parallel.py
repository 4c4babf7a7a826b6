"""Training over several processes: parameters in shards, or matrix products in parts.

Which part goes where follows from the logical axes of the parameter table. Shapes are those of a
``DeviceMesh``; processes are started by ``torchrun``.
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

from gptj.errors import ArgumentError
from gptj.spec.params import DIVIDED, Parameter, parameter_table
from gptj.spec.quantization import check_trainable


def shard_fully(model: Any, mesh: DeviceMesh | None = None, **options: Any) -> Any:
    """Shard parameters, gradients and optimizer state over all processes, block by block (FSDP2).

    Make the optimizer afterwards. Source: Zhao et al., arXiv:2304.11277.

    Args:
        mesh: of one dimension, or of two to replicate over the first; all processes if None.
        options: of ``torch.distributed.fsdp.fully_shard``, such as ``mp_policy``.

    Raises:
        UnsupportedFeature: for quantized weights.
    """
    check_trainable(model.config, "shard_fully()")
    for block in model.get_base().h:
        fully_shard(block, mesh=mesh, **options)
    return fully_shard(model, mesh=mesh, **options)


def split_products(model: Any, mesh: DeviceMesh) -> Any:
    """Give every process of a mesh its part of each matrix product (tensor parallelism).

    Each computes some heads, some of the inner width and some words. Make the optimizer afterwards.
    A cache of `init_cache`, and so generation, is for whole models. Source: Shoeybi et al.,
    arXiv:1909.08053.

    Raises:
        ArgumentError: where the processes cannot share the heads or the inner width evenly.
        UnsupportedFeature: for quantized weights.
    """
    check_trainable(model.config, "split_products()")
    count, config = mesh.size(), model.config
    for name, size in (("n_head", config.n_head), ("n_inner", config.inner_dim)):
        if size % count:
            raise ArgumentError(
                f"{count} processes cannot share {name} = {size} evenly: take a divisor of it."
            )
    parallelize_module(model, mesh, tensor_parallel_plan(model))
    model.tie_weights()  # each of two modules had got its own part
    return model


def tensor_parallel_plan(model: Any) -> dict[str, ParallelStyle]:
    """Return the style of every module that is split, by its name."""
    plan = {}
    for name, parameter in parameter_table(model.config, model.head).items():
        module, _, leaf = name.rpartition(".")
        style = _style(parameter, model.get_submodule(module)) if leaf == "weight" else None
        if style is not None:
            plan[module] = style
    return plan


def _style(parameter: Parameter, module: nn.Module) -> ParallelStyle | None:
    """Return how a module is split, if it is; what leaves it for another kind is whole again."""
    if isinstance(module, nn.Embedding):
        return RowwiseParallel(input_layouts=Replicate(), output_layouts=Replicate())
    if parameter.axes[0] == "vocab":
        return ColwiseParallel(output_layouts=Replicate())
    if parameter.axes[0] in DIVIDED:
        return ColwiseParallel()
    return RowwiseParallel() if parameter.axes[-1] in DIVIDED else None
