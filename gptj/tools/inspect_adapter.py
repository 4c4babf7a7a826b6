"""What an adapter holds, beside its base model."""

from typing import Any

from gptj.checkpoint.adapter_files import read_adapter
from gptj.checkpoint.adapter_folder import AdapterFolder
from gptj.spec.config import GPTJConfig
from gptj.spec.params import parameter_table
from gptj.spec.tensors import LazyTensor
from gptj.tools.tensor_values import look


def inspected_adapter(
    adapter: AdapterFolder, config: GPTJConfig, head: str, problems: list[str]
) -> tuple[dict[str, Any], dict[str, LazyTensor]]:
    """Return what an adapter is, and the modules of the model that it brings whole.

    Raises:
        CheckpointError: for an adapter that does not fit this model and this head.
    """
    lora, tensors, _ = read_adapter(adapter.folder, config, head)
    looks = {name: look(name, tensor) for name, tensor in tensors.items()}
    for _, faults in looks.values():
        problems += [fault for fault in faults if "lora_B" not in fault or "zero" not in fault]
    table = parameter_table(config, head)
    about = {
        "base": adapter.base,
        "rank": lora.rank,
        "alpha": lora.alpha,
        "targets": list(lora.targets),
        "tensors": {name: found for name, (found, _) in looks.items()},
    }
    return {"adapter": about}, {n: t for n, t in tensors.items() if n in table}
