"""The models of all heads: inputs in NumPy, sessions of ONNX Runtime, outputs in NumPy."""

from pathlib import Path
from typing import Any, ClassVar, Final

from onnxruntime import InferenceSession

from gptj.backends.onnxruntime.cache import OnnxCache, to_engine
from gptj.backends.onnxruntime.feeds import (
    Feeds,
    chosen_positions,
    chosen_tokens,
    needs_whole,
    usual_feeds,
    whole_feeds,
)
from gptj.backends.onnxruntime.files import MODEL, write_files
from gptj.backends.onnxruntime.interface import WHOLE, Interface, cache_names
from gptj.backends.onnxruntime.outputs import OutputNames, as_array
from gptj.backends.onnxruntime.session import open_session
from gptj.backends.onnxruntime.weights import stored_params
from gptj.model.array_cache import Array
from gptj.model.array_heads import (
    ArrayForCausalLM,
    ArrayForQuestionAnswering,
    ArrayForSequenceClassification,
)
from gptj.model.array_inputs import Flags, Inputs, batch_of
from gptj.model.array_models import ArrayModel
from gptj.model.engine_cache import converted
from gptj.model.engine_limits import compiled_facts
from gptj.spec.config import GPTJConfig
from gptj.spec.outputs import ModelOutput
from gptj.spec.tensors import Tensors

FORM: Final = 1
"""Part of every key of the cache: raised when the same model would make other files."""

WHOLE_MODEL: Final = "whole.onnx"

INTERFACES: Final = {MODEL: Interface(cache=True, positions=True, chosen=True), WHOLE_MODEL: WHOLE}
"""File -> what its graph takes: the usual, and all that a model can be asked for."""


class OnnxGPTJModel(ArrayModel):
    """GPT-J without a head: token ids to hidden states.

    Sessions and `params` map the same file, that of the converted model. What few calls ask for,
    such as attentions, or embeddings as input, runs in a second session, which is made when it is
    needed and takes as much memory as the first.
    """

    backend_name = "onnxruntime"
    cache_class: ClassVar[type] = OnnxCache
    engine_parts: ClassVar[tuple[str, ...]] = ("params", "sessions")

    def __init__(
        self, config: GPTJConfig, params: Tensors, engine_cache: str | Path | None
    ) -> None:
        """Convert the parameters, unless the folder `engine_cache` has them converted already."""
        self.config, self.engine_cache = config, engine_cache
        self.replace(params)

    def replace(self, params: Tensors) -> None:
        """Take other parameters, whose number of words the configuration has already."""
        config, head = self.config, self.head

        def write(folder: Path, tensors: Tensors) -> None:
            write_files(folder, config, head, tensors, INTERFACES)

        name, details = self.backend_name, {"form": FORM}
        self.folder = converted(name, config, head, params, write, details, self.engine_cache)
        self.open_engine()

    def open_engine(self) -> None:
        """Open the files of the converted model."""
        self.facts = compiled_facts(self.config)
        self.params = stored_params(self.folder / MODEL, self.config, self.head)
        self.sessions: dict[str, InferenceSession] = {}
        self.session(MODEL)

    def session(self, name: str) -> InferenceSession:
        """Return the session of one of the model's files."""
        if name not in self.sessions:
            self.sessions[name] = open_session(self.folder / name)
        return self.sessions[name]

    def compute(
        self, inputs: Inputs, past: Any, flags: Flags, keep: Array | None = None
    ) -> ModelOutput:
        """Run the usual graph, or the whole one where more is asked for than that has."""
        past = self.init_cache(batch_of(inputs) or 0, None) if past is None else past
        feeds, names = self.choice(inputs, past.length, keep), OutputNames(self.config, self.head)
        if self.observe is not None or needs_whole(inputs, flags):
            feeds |= whole_feeds(self.config, self._table(), inputs, past.length)
            modules = [] if self.observe is None else names.modules
            found = self._run(WHOLE_MODEL, [*names.wanted(flags), *modules], feeds, past)
            self._show(inputs, found, modules)
        else:
            feeds |= usual_feeds(inputs, past.length)
            found = self._run(MODEL, names.wanted(flags), feeds, past)
        output = ModelOutput(names.arrays(found, flags).items())
        if flags["hidden_states"]:
            output["hidden_states"] = (feeds["inputs_embeds"], *output.hidden_states)
        if flags["past_key_values"]:
            output["past_key_values"] = self._cache(names, found, past, inputs["attention_mask"])
        return output

    def choice(self, inputs: Inputs, past_length: int, keep: Array | None) -> Feeds:
        """Return which tokens the head is computed for, where it has a choice."""
        return {}

    def init_cache(self, batch: int, max_length: int | None) -> OnnxCache:
        """Return an empty cache of `max_length` tokens at most, or of any number."""
        shape = (batch, self.config.n_head, 0, self.config.head_dim)
        return OnnxCache.empty(shape, self.config.n_layer, max_length)

    def _run(self, model: str, names: list[str], feeds: Feeds, past: OnnxCache) -> dict[str, Any]:
        """Run a session, and return its values by name."""
        layers = range(self.config.n_layer)
        keys = (name for layer in layers for name in cache_names("past_key_values", layer))
        given = {name: to_engine(array) for name, array in feeds.items()}
        given |= dict(zip(keys, past.values, strict=True))
        found = self.session(model).run_with_ort_values(list(dict.fromkeys(names)), given)
        return dict(zip(dict.fromkeys(names), found, strict=True))

    def _show(self, inputs: Inputs, found: dict[str, Any], modules: list[str]) -> None:
        """Pass the outputs of modules to the observer."""
        if self.observe is None:
            return
        if inputs["input_ids"] is not None:
            self.observe(
                self.word_table.removesuffix(".weight"), self._table()[inputs["input_ids"]]
            )
        for name in modules:
            self.observe(name, as_array(found[name]))

    def _table(self) -> Array:
        return self.get_input_embeddings().read()

    def _cache(
        self, names: OutputNames, found: dict[str, Any], past: OnnxCache, mask: Array | None
    ) -> OnnxCache:
        """Return the keys and values of all tokens so far."""
        values = [found[name] for name in names.parts["past_key_values"]]
        attended = mask if mask is not None and mask.ndim == 2 else None
        return OnnxCache(values, attended, past.capacity)


class OnnxGPTJForCausalLM(ArrayForCausalLM, OnnxGPTJModel):
    """GPT-J with a language-model head: token ids to next-token logits."""

    def choice(self, inputs: Inputs, past_length: int, keep: Array | None) -> Feeds:
        """Return the positions that get logits, (K,)."""
        return {"chosen": chosen_positions(inputs, keep)}


class OnnxGPTJForSequenceClassification(ArrayForSequenceClassification, OnnxGPTJModel):
    """GPT-J with a classification head on the last attended token of every sequence."""

    def choice(self, inputs: Inputs, past_length: int, keep: Array | None) -> Feeds:
        """Return that token, (B,)."""
        return {"chosen": chosen_tokens(self.config, inputs, past_length)}


class OnnxGPTJForQuestionAnswering(ArrayForQuestionAnswering, OnnxGPTJModel):
    """GPT-J with a head that marks where in the text an answer starts and ends."""
