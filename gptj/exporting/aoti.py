"""AOTInductor: a model that PyTorch has compiled to machine code, for Python and C++."""

import os
import shutil
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from gptj.errors import UnsupportedFeature
from gptj.exporting import example
from gptj.exporting.source import Source
from gptj.exporting.target import Floats, Ints, Runner, Target
from gptj.spec.heads import HEADS
from gptj.spec.types import Tensor

FILE: Final = "model.pt2"

USAGE: Final = """```python
import torch
{imports}
{ids}ids = torch.tensor([ids])
model = torch._inductor.aoti_load_package("model.pt2")
print([output.shape for output in model(ids, torch.ones_like(ids))])
{text}```

In C++ it is `torch::inductor::AOTIModelPackageLoader loader("model.pt2");` and `loader.run(inputs)`
with the same two tensors, int64, (batch, length), which may be padded on either side. Outputs:
{fields}.

The code is for processors like the one that it was compiled on (`machine` in `parity.json`), and
for the version of PyTorch under `versions`.
"""


TEXT: Final = """
for _ in range(20):  # the most likely tokens; there is no cache
    logits = model(ids, torch.ones_like(ids))[0]
    ids = torch.cat([ids, logits[:, -1:].argmax(-1)], dim=1)
{shown}"""


class AOTI(Target):
    """What ``torch.export`` and Inductor make of the backend torch."""

    name = "aoti"
    summary = "PyTorch's AOTInductor, from Python and C++"
    backend = "torch"
    heads = tuple(HEADS)
    dtypes = ("float32", "bfloat16", "float16")
    writers: ClassVar = {"torch": "torch"}
    runtime: ClassVar = {"torch": "torch"}

    def check(self, source: Source) -> None:
        """Refuse to begin without a compiler."""
        compiler = os.environ.get("CXX", "g++")
        if shutil.which(compiler) is None and shutil.which("clang++") is None:
            raise UnsupportedFeature(
                f"The target {self.name!r} needs a C++ compiler, and {compiler} is not there. "
                "Install one (apt install g++, or xcode-select --install), or set CXX."
            )

    def write(self, source: Source, folder: Path) -> None:
        """Compile the model for open sizes."""
        import torch

        program = _exported(source)
        torch._inductor.aoti_compile_and_package(program, package_path=str(folder / FILE))

    def open(self, folder: Path, source: Source) -> Runner:
        """Open the package in PyTorch."""
        return AOTIRunner(folder, source.fields)

    def usage(self, source: Source) -> str:
        """Return a program for PyTorch."""
        return USAGE.format(
            imports=example.imports(source),
            ids=example.ids(source),
            text=TEXT.format(shown=example.shown(source, "ids[0].tolist()"))
            if source.head == "causal_lm"
            else "",
            fields=", ".join(source.fields),
        )


class AOTIRunner(Runner):
    """The compiled package."""

    def __init__(self, folder: Path, fields: tuple[str, ...]) -> None:
        import torch

        self.torch, self.fields = torch, fields
        self.model = torch._inductor.aoti_load_package(str(folder / FILE))

    def outputs(self, ids: Ints, mask: Ints) -> dict[str, Floats]:
        """Return what the package does."""
        with self.torch.inference_mode():
            found = self.model(self.torch.from_numpy(ids), self.torch.from_numpy(mask))
        arrays = (np.asarray(output.float()) for output in found)
        return dict(zip(self.fields, arrays, strict=True))


def _exported(source: Source) -> Any:
    """Return the program of ids and mask, (batch, length)."""
    import torch

    class Forward(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
            output = self.model(
                input_ids, attention_mask=attention_mask, use_cache=False, return_dict=True
            )
            return tuple(output[name] for name in source.fields)

    ids = torch.zeros((2, 8), dtype=torch.int64)
    limit = source.config.n_positions
    sizes = {0: torch.export.Dim("batch", max=2**16), 1: torch.export.Dim("length", max=limit)}
    with torch.no_grad():
        return torch.export.export(
            Forward(source.build("torch")).eval(),
            (ids, torch.ones_like(ids)),
            dynamic_shapes={"input_ids": sizes, "attention_mask": sizes},
        )
