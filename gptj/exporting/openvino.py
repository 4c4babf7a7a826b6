"""OpenVINO's own form: a graph and its weights, made from the specification."""

from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from gptj.exporting import example
from gptj.exporting.source import Source
from gptj.exporting.target import Floats, Ints, Runner, Target
from gptj.spec.heads import HEADS
from gptj.spec.positions import positions_from_mask

FILE: Final = "openvino_model.xml"

TEXT: Final = f"""```python
import numpy as np, openvino as ov
<imports>

<ids>
model = ov.compile_model("{FILE}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
past = 0
for _ in range(20):  # the model remembers what it has seen: give it what is new
    inputs = [[ids[past:]], [[1] * len(ids)], [[*range(past, len(ids))]], np.zeros(1, np.int32)]
    past, ids = len(ids), [*ids, int(model(inputs)[0][0, -1].argmax())]
<shown ids>
```

The inputs are `input_ids`, `attention_mask` over all tokens so far, `position_ids` and `beam_idx`,
which says from which of the earlier sequences each row goes on. A new text begins with a new infer
request, or `reset_state()`. The files say that keys and values are kept in float32; OpenVINO's
default is 8-bit numbers, with which logits of the demo are off by 2e-2. OpenVINO GenAI and Optimum
use the same names; the tokenizer as a graph, which GenAI needs besides, is not here.
"""

CALL: Final = f"""```python
import openvino as ov
<imports>

<ids>
model = ov.compile_model("{FILE}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
print(model([[ids], [[1] * len(ids)]])[0])
```

The inputs are `input_ids` and `attention_mask`, of any batch and length, padded on either side.
"""


class OpenVINO(Target):
    """The graph of a head; that of the causal language model keeps keys and values."""

    name = "openvino"
    summary = "OpenVINO on a CPU"
    heads = tuple(HEADS)
    dtypes = ("float32", "bfloat16", "float16")
    writers: ClassVar = {"openvino": "openvino"}
    runtime: ClassVar = {"openvino": "openvino"}

    def write(self, source: Source, folder: Path) -> None:
        """Write the graph, whose weights have the source's dtype and are computed in float32."""
        from gptj.backends.openvino.files import write_graph  # needs openvino

        write_graph(folder / FILE, source.config, source.head, source.tensors)

    def open(self, folder: Path, source: Source) -> Runner:
        """Open the files in OpenVINO."""
        return OpenVINORunner(folder / FILE, source.fields)

    def usage(self, source: Source) -> str:
        """Return a program for OpenVINO."""
        return example.filled(TEXT if source.head == "causal_lm" else CALL, source)


class OpenVINORunner(Runner):
    """A compiled graph, run as the page of the folder says."""

    def __init__(self, path: Path, fields: tuple[str, ...]) -> None:
        from gptj.backends.openvino.files import open_graph  # needs openvino

        self.model = open_graph(path)
        self.fields = fields

    def outputs(self, ids: Ints, mask: Ints) -> dict[str, Floats]:
        """Run whole texts."""
        found = self._call(self.model.create_infer_request(), ids, mask, 0)
        if len(self.fields) == 1:
            return {self.fields[0]: found}
        return {name: found[..., at] for at, name in enumerate(self.fields)}

    def cached(self, ids: Ints, mask: Ints, prefilled: int) -> Floats | None:
        """Run texts token by token on the graph's state."""
        if not self.model.get_runtime_model().get_sinks():
            return None
        request = self.model.create_infer_request()
        starts = [0, *range(prefilled, ids.shape[1])]
        stops = [*starts[1:], ids.shape[1]]
        found = [
            self._call(request, ids[:, start:stop], mask[:, :stop], start)
            for start, stop in zip(starts, stops, strict=True)
        ]
        return np.concatenate(found, axis=1)

    def greedy(self, ids: Ints, count: int) -> Ints | None:
        """Append tokens to the state, one by one."""
        request, start, length = self.model.create_infer_request(), 0, ids.shape[1]
        for _ in range(count):
            logits = self._call(request, ids[:, start:], np.ones_like(ids), start)
            start = ids.shape[1]
            ids = np.hstack((ids, logits[:, -1].argmax(axis=-1)[:, None]))
        return ids[:, length:]

    def _call(self, request: Any, ids: Ints, mask: Ints, past: int) -> Floats:
        """Return the output at new tokens (B, T), after `past` ones that the request has seen."""
        every = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": np.ascontiguousarray(positions_from_mask(mask)[:, past:]),
            "beam_idx": np.arange(len(ids), dtype=np.int32),
        }
        names = {port.get_any_name() for port in self.model.inputs}
        found: Floats = request.infer({n: array for n, array in every.items() if n in names})[0]
        return found
