"""What most users need: load a model, load a tokenizer, and text from text in one call."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, Unpack, overload

from gptj import hub
from gptj.backends import get_backend
from gptj.generation.keywords import TextOptions
from gptj.model.loading import load_model
from gptj.model.options import AnyOptions, FlaxOptions, TFOptions, TorchOptions
from gptj.model.pretrained import Pretrained
from gptj.spec.types import Device, DType
from gptj.tokenizer import GPTJTokenizer
from gptj.tokenizer.options import TokenizerOptions

if TYPE_CHECKING:
    from gptj.backends.flax.heads import (
        FlaxGPTJForCausalLM,
        FlaxGPTJForQuestionAnswering,
        FlaxGPTJForSequenceClassification,
        FlaxGPTJModel,
    )
    from gptj.backends.tf.heads import (
        TFGPTJForCausalLM,
        TFGPTJForQuestionAnswering,
        TFGPTJForSequenceClassification,
        TFGPTJModel,
    )
    from gptj.backends.torch.heads import (
        GPTJForCausalLM,
        GPTJForQuestionAnswering,
        GPTJForSequenceClassification,
        GPTJModel,
    )

Torch: TypeAlias = Literal["torch", "pytorch", "pt"]
TF: TypeAlias = Literal["tf", "tensorflow", "keras"]
Flax: TypeAlias = Literal["flax", "jax"]


@overload
def load(
    name: str | Path = "demo",
    *,
    backend: Torch,
    head: Literal["base"],
    **options: Unpack[TorchOptions],
) -> "GPTJModel": ...
@overload
def load(
    name: str | Path = "demo",
    *,
    backend: Torch,
    head: Literal["causal_lm"] | None = None,
    **options: Unpack[TorchOptions],
) -> "GPTJForCausalLM": ...
@overload
def load(
    name: str | Path = "demo",
    *,
    backend: Torch,
    head: Literal["sequence_classification"],
    **options: Unpack[TorchOptions],
) -> "GPTJForSequenceClassification": ...
@overload
def load(
    name: str | Path = "demo",
    *,
    backend: Torch,
    head: Literal["question_answering"],
    **options: Unpack[TorchOptions],
) -> "GPTJForQuestionAnswering": ...
@overload
def load(
    name: str | Path = "demo", *, backend: TF, head: Literal["base"], **options: Unpack[TFOptions]
) -> "TFGPTJModel": ...
@overload
def load(
    name: str | Path = "demo",
    *,
    backend: TF,
    head: Literal["causal_lm"] | None = None,
    **options: Unpack[TFOptions],
) -> "TFGPTJForCausalLM": ...
@overload
def load(
    name: str | Path = "demo",
    *,
    backend: TF,
    head: Literal["sequence_classification"],
    **options: Unpack[TFOptions],
) -> "TFGPTJForSequenceClassification": ...
@overload
def load(
    name: str | Path = "demo",
    *,
    backend: TF,
    head: Literal["question_answering"],
    **options: Unpack[TFOptions],
) -> "TFGPTJForQuestionAnswering": ...
@overload
def load(
    name: str | Path = "demo",
    *,
    backend: Flax,
    head: Literal["base"],
    **options: Unpack[FlaxOptions],
) -> "FlaxGPTJModel": ...
@overload
def load(
    name: str | Path = "demo",
    *,
    backend: Flax,
    head: Literal["causal_lm"] | None = None,
    **options: Unpack[FlaxOptions],
) -> "FlaxGPTJForCausalLM": ...
@overload
def load(
    name: str | Path = "demo",
    *,
    backend: Flax,
    head: Literal["sequence_classification"],
    **options: Unpack[FlaxOptions],
) -> "FlaxGPTJForSequenceClassification": ...
@overload
def load(
    name: str | Path = "demo",
    *,
    backend: Flax,
    head: Literal["question_answering"],
    **options: Unpack[FlaxOptions],
) -> "FlaxGPTJForQuestionAnswering": ...
@overload
def load(
    name: str | Path = "demo",
    *,
    backend: str | None = None,
    head: str | None = None,
    **options: Unpack[AnyOptions],
) -> Pretrained: ...
def load(
    name: str | Path = "demo",
    *,
    backend: str | None = None,
    head: str | None = None,
    dtype: DType = "auto",
    device: Device | None = None,
    revision: str | None = None,
    **options: Any,
) -> Pretrained:
    """Load a GPT-J in the framework of your choice.

    Args:
        name: ``"demo"`` (a small trained model inside the package), ``"6B"``, a folder, a file, or
            a hub id with or without ``@revision``. An adapter, as `save_lora` or PEFT writes it, is
            loaded together with the model that its ``adapter_config.json`` names.
        backend: ``"torch"``, ``"tf"`` or ``"flax"``, an alias (``"pytorch"``, ``"keras"``,
            ``"jax"``), or the name of one that is plugged in; the first that is installed if None.
        head: ``"base"``, ``"causal_lm"``, ``"sequence_classification"`` or
            ``"question_answering"``, if the backend has it. None means that of an adapter,
            and of any other name ``"causal_lm"``.
        dtype: of parameters and computation; ``"auto"`` takes what ``keras.config`` has set for all
            models, if it is not the usual, then the configuration's, then the file's.
        device: ``"cpu"``, ``"gpu"``, ``"gpu:1"``, or the framework's own name of one.
        revision: branch, tag or commit on the hub.
        options: fields of the configuration, what `gptj.model.loading.load_model` takes, and what
            the backend takes, such as ``attn_implementation``.

    Returns:
        The model: `GPTJForCausalLM`, `TFGPTJForCausalLM` and so on.

    Raises:
        BackendUnavailable: if the framework is not installed, naming the extra that installs it.
        ArgumentError, UnsupportedFeature, CheckpointError: saying what was wrong and what to do.
    """
    return load_model(
        get_backend(backend),
        head,
        name,
        dtype=dtype,
        device=device,
        revision=revision,
        **options,
    )


def load_tokenizer(name: str | Path = "demo", **options: Unpack[TokenizerOptions]) -> GPTJTokenizer:
    """Load the tokenizer of a model: a folder's own, else GPT-J's.

    Args:
        name: as in `load`. An adapter without a tokenizer has that of the model it belongs to.
        options: as in ``GPTJTokenizer.from_pretrained``.
    """
    settings: dict[str, Any] = {**options}
    where = {key: settings.pop(key) for key in hub.OPTIONS & settings.keys()}
    return GPTJTokenizer.from_pretrained(hub.locate_tokenizer(name, **where), **settings)


@overload
def generate(
    prompts: str,
    model: str | Path | Pretrained = "demo",
    *,
    backend: str | None = None,
    dtype: DType = "auto",
    device: Device | None = None,
    revision: str | None = None,
    **options: Unpack[TextOptions],
) -> str: ...
@overload
def generate(
    prompts: list[str] | tuple[str, ...],
    model: str | Path | Pretrained = "demo",
    *,
    backend: str | None = None,
    dtype: DType = "auto",
    device: Device | None = None,
    revision: str | None = None,
    **options: Unpack[TextOptions],
) -> list[str]: ...
@overload
def generate(
    prompts: str | Sequence[str],
    model: str | Path | Pretrained = "demo",
    *,
    num_return_sequences: int,
    backend: str | None = None,
    dtype: DType = "auto",
    device: Device | None = None,
    revision: str | None = None,
    **options: Unpack[TextOptions],
) -> Any: ...
def generate(
    prompts: str | Sequence[str],
    model: str | Path | Pretrained = "demo",
    *,
    backend: str | None = None,
    dtype: DType = "auto",
    device: Device | None = None,
    revision: str | None = None,
    **options: Any,
) -> Any:
    """Continue one text or several, and return texts.

    Args:
        prompts: a text, or a list of them.
        model: a model that was loaded, or a name as in `load`, which is loaded for this call.
        backend, dtype, device, revision: as in `load`, for a name.
        options: what ``model.generate_text`` takes: ``max_new_tokens``, ``strip_prompt`` ...
    """
    if isinstance(model, str | Path):
        model = load(model, backend=backend, dtype=dtype, device=device, revision=revision)
    return model.generate_text(prompts, **options)
