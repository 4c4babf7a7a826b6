"""ONNX: a graph for ONNX Runtime and all that read its form, and for onnxruntime-genai."""

import json
from pathlib import Path
from typing import Any, ClassVar, Final

import numpy as np

from gptj.exporting import example
from gptj.exporting.source import Source
from gptj.exporting.target import Floats, Ints, Runner, Target
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import HEADS
from gptj.system.atomic import write_text

MODEL: Final = "model.onnx"
GENAI: Final = "genai_config.json"

TEXT: Final = """```python
import numpy as np, onnxruntime
<imports>

<ids>
session, text = onnxruntime.InferenceSession("model.onnx"), np.array([ids])
new = text
past = {x.name: np.zeros((1, x.shape[1], 0, x.shape[3]), "f4") for x in session.get_inputs()[3:]}
for _ in range(20):
    places = np.arange(text.shape[1])[None, -new.shape[1] :]
    inputs = {"input_ids": new, "attention_mask": np.ones_like(text), "position_ids": places}
    logits, *present = session.run(None, {**inputs, **past})
    past, new = dict(zip(past, present)), logits[:, -1:].argmax(-1)
    text = np.hstack((text, new))
<shown text[0].tolist()>
```

Any batch and length, padded on either side: `attention_mask` is 1 or 0 for all tokens, past and
new, and `position_ids` is `np.maximum(attention_mask.cumsum(-1) - 1, 0)` at the new ones.
"""

WITH_GENAI: Final = """
With onnxruntime-genai, which has its own loop and tokenizer:

```python
import onnxruntime_genai as og

model = og.Model(".")
tokenizer, params = og.Tokenizer(model), og.GeneratorParams(model)
params.set_search_options(max_length=40)
generator = og.Generator(model, params)
generator.append_tokens(tokenizer.encode("def fibonacci(n):"))
while not generator.is_done():
    generator.generate_next_token()
print(tokenizer.decode(generator.get_sequence(0)))
```

A prompt that ends with the `pad_token_id` of `genai_config.json` is continued from the token before
that: genai takes it for padding, also in a single prompt.
"""

OTHER: Final = """```python
import numpy as np, onnxruntime
<imports>

<ids>
session, text = onnxruntime.InferenceSession("model.onnx"), np.array([ids])
found = session.run(None, {"input_ids": text, "attention_mask": np.ones_like(text)})
print({output.name: x.shape for output, x in zip(session.get_outputs(), found)})
```

Any batch and length, padded on either side: `attention_mask` is 1 or 0.
"""

REPORTS: Final = """
ONNX Runtime's own builds report their use to Microsoft, unless the environment has
`ORT_DISABLE_TELEMETRY=1`.
"""


class Onnx(Target):
    """A graph with named inputs, and its weights in a file beside it."""

    name = "onnx"
    summary = "ONNX Runtime, and onnxruntime-genai"
    heads = tuple(HEADS)
    writers: ClassVar = {"onnx": "onnx"}
    runtime: ClassVar = {"onnxruntime": "onnxruntime"}

    def write(self, source: Source, folder: Path) -> None:
        """Write the graph, with a cache for a language model, and what says its sizes."""
        from gptj.backends.onnxruntime.files import write_files  # needs onnx
        from gptj.backends.onnxruntime.interface import Interface

        has_cache = source.head == "causal_lm"
        interface = Interface(cache=has_cache, positions=has_cache)
        write_files(folder, source.config, source.head, source.tensors, {MODEL: interface})
        source.written_config().to_json_file(folder / "config.json")
        if has_cache:
            write_text(folder / GENAI, json.dumps(genai_config(source.config), indent=2) + "\n")

    def open(self, folder: Path, source: Source) -> Runner:
        """Open the graph in ONNX Runtime."""
        return OnnxRunner(folder)

    def usage(self, source: Source) -> str:
        """Return a program for ONNX Runtime, and one for onnxruntime-genai, which reads text."""
        if source.head != "causal_lm":
            return example.filled(OTHER, source) + REPORTS
        return example.filled(TEXT, source) + (WITH_GENAI if source.has_tokenizer else "") + REPORTS


class OnnxRunner(Runner):
    """A session of ONNX Runtime, alone."""

    def __init__(self, folder: Path) -> None:
        from gptj.backends.onnxruntime.session import open_session  # needs onnxruntime

        self.session = open_session(folder / MODEL)
        self.names = [output.name for output in self.session.get_outputs()]
        self.past = [x for x in self.session.get_inputs() if x.name.startswith("past_key_values")]

    def outputs(self, ids: Ints, mask: Ints) -> dict[str, Floats]:
        """Return the outputs of one run."""
        found = self._run(ids, mask, self._empty(len(ids)))
        return {name: x for name, x in found.items() if not name.startswith("present")}

    def cached(self, ids: Ints, mask: Ints, prefilled: int) -> Floats | None:
        """Return logits from a run on the first positions, and one on each of the others."""
        if not self.past:
            return None
        cache, parts = self._empty(len(ids)), []
        ends = [prefilled, *range(prefilled + 1, ids.shape[1] + 1)]
        for start, end in zip([0, *ends], ends, strict=False):
            found = self._run(ids[:, start:end], mask[:, :end], cache)
            cache = self._next(found)
            parts.append(found["logits"])
        return np.concatenate(parts, axis=1)

    def greedy(self, ids: Ints, count: int) -> Ints | None:
        """Return the likeliest tokens, with the cache."""
        if not self.past:
            return None
        cache, new, text = self._empty(len(ids)), ids, ids
        for _ in range(count):
            found = self._run(new, np.ones_like(text), cache)
            cache, new = self._next(found), found["logits"][:, -1:].argmax(axis=-1)
            text = np.hstack((text, new))
        return text[:, ids.shape[1] :]

    def _run(self, ids: Ints, mask: Ints, cache: dict[str, Floats]) -> dict[str, Floats]:
        feeds: dict[str, Any] = {"input_ids": ids, "attention_mask": mask, **cache}
        if self.past:
            positions = np.maximum(mask.cumsum(axis=-1) - 1, 0)
            feeds["position_ids"] = positions[:, mask.shape[1] - ids.shape[1] :]
        return dict(zip(self.names, self.session.run(None, feeds), strict=True))

    def _empty(self, batch: int) -> dict[str, Floats]:
        """Return keys and values of no tokens."""
        return {x.name: np.zeros((batch, x.shape[1], 0, x.shape[3]), np.float32) for x in self.past}

    def _next(self, found: dict[str, Floats]) -> dict[str, Floats]:
        """Return a run's keys and values as inputs of the next."""
        return {x.name: found[x.name.replace("past_key_values", "present")] for x in self.past}


def genai_config(config: GPTJConfig) -> dict[str, Any]:
    """Return the content of ``genai_config.json``, for the likeliest tokens."""
    decoder = {
        "filename": MODEL,
        "head_size": config.head_dim,
        "hidden_size": config.n_embd,
        "num_attention_heads": config.n_head,
        "num_hidden_layers": config.n_layer,
        "num_key_value_heads": config.n_head,
        "session_options": {"provider_options": []},
        "inputs": {
            **{name: name for name in ("input_ids", "attention_mask", "position_ids")},
            "past_key_names": "past_key_values.%d.key",
            "past_value_names": "past_key_values.%d.value",
        },
        "outputs": {
            "logits": "logits",
            "present_key_names": "present.%d.key",
            "present_value_names": "present.%d.value",
        },
    }
    model = {
        "type": "decoder",
        "context_length": config.n_positions,
        "vocab_size": config.vocab_size,
        **special_tokens(config),
        "decoder": decoder,
    }
    search = {"do_sample": False, "max_length": config.n_positions, "num_beams": 1}
    return {"model": model, "search": {**search, "past_present_share_buffer": False}}


def special_tokens(config: GPTJConfig) -> dict[str, Any]:
    """Return the ids that genai needs, which takes token 0 for any that is missing.

    A model without an end token gets the last of the vocabulary, which is one of the extra tokens
    that no GPT-J was trained on, where it has them.
    """
    ends = config.vocab_size - 1 if config.eos_token_id is None else config.eos_token_id
    first = ends[0] if isinstance(ends, list) else ends
    return {
        "bos_token_id": first if config.bos_token_id is None else config.bos_token_id,
        "eos_token_id": ends,
        "pad_token_id": first if config.pad_token_id is None else config.pad_token_id,
    }
