"""What the models of all backends share: files, score(), trace(), resize. Touches no tensor."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final, Self, Unpack, cast

import numpy.typing as npt

from gptj.checkpoint.folder import vocabulary_of
from gptj.checkpoint.ggml_writer import GgmlOptions
from gptj.checkpoint.progress import byte_progress
from gptj.checkpoint.saving import save_checkpoint
from gptj.contract.backend import AnyBackend
from gptj.errors import ArgumentError, UnsupportedFeature, choices
from gptj.generation.options import GenerationConfig
from gptj.model.config import GPTJConfig
from gptj.model.generating import TextGeneration
from gptj.model.loading import load_model
from gptj.model.lora import Adapters
from gptj.model.new_model import new_model
from gptj.model.optimizers import Optimizers
from gptj.model.options import AnyOptions
from gptj.model.tool_protocols import ToolProtocols
from gptj.scoring import score_texts
from gptj.scoring.options import Texts
from gptj.scoring.perplexity import Score
from gptj.scoring.score_method import UnlessALayer
from gptj.scoring.text_inputs import Text
from gptj.spec import config as spec
from gptj.spec.heads import find_head
from gptj.spec.module_names import find_module_names, module_names
from gptj.spec.resize import padded_size, resized_parameters
from gptj.spec.tensors import Tensors
from gptj.spec.types import Tensor, TensorLike
from gptj.system.atomic import folder_named
from gptj.tokenizer import GPTJTokenizer
from gptj.tokenizer.lookup import add_tokenizer

HOW_TO_TRACE: Final = (
    "trace() takes token ids and names of modules: model.trace(tokenizer('a text')['input_ids'], "
    "'transformer.h.*.mlp'). A text is encoded first; model.module_names() lists the names."
)


class Pretrained(ToolProtocols, TextGeneration, Adapters, Optimizers):
    """The shared base of every model class.

    Attributes:
        backend: the backend that the class belongs to.
        backend_name: its name in the registry.
        head: which head the class has.
        config: the model's configuration.
        config_class: what a file is read as.
        generation_config: the defaults of `generate`.
        source_folder: the folder that it was loaded from, if any.
    """

    backend: ClassVar[AnyBackend]
    backend_name: ClassVar[str]
    head: ClassVar[str]
    config: spec.GPTJConfig
    config_class: ClassVar[type[GPTJConfig]] = GPTJConfig
    source_folder: Path | None = None

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Unpack[AnyOptions]) -> Self:
        """Return a model with the weights of a preset, a folder, a file or a hub id.

        Takes what `load_model` takes, and fields of the configuration.

        Raises:
            UnsupportedFeature: for a class derived from the backend's own, which it does not make.
        """
        model = load_model(cls.backend, cls.head, name, **options)
        if not isinstance(model, cls):
            raise UnsupportedFeature(
                f"{cls.__name__}.from_pretrained would give a {type(model).__name__}, without what "
                f"{cls.__name__} adds. Make a {cls.__name__}(config), and give it the weights of "
                "that one."
            )
        return model

    @classmethod
    def from_config(cls, config: spec.GPTJConfig, **options: Any) -> Self:
        """Return a model with new weights. Takes what `new_model` takes.

        Raises:
            ArgumentError, UnsupportedFeature: as there.
        """
        return cast(Self, new_model(cls.backend, cls.head, config, **options))

    def save_pretrained(
        self,
        folder: str | Path,
        *,
        max_shard_size: int | str = "5GB",
        format: str = "safetensors",
    ) -> None:
        """Write configuration, generation options, weights and tokenizer in the form of the hub.

        The tokenizer is that of the folder which the model was loaded from, or GPT-J's own.

        Args:
            folder: made if it is not there; what it holds stays whole if anything fails.
            max_shard_size: bytes of one file, as a number or as ``"500MB"``.
            format: ``"safetensors"``, or ``"bin"``, ``"msgpack"``, ``"h5"``, ``"mesh"``,
                ``"ggml"``.
        """
        self._write(folder, self.whole_params(), max_shard_size, format)

    def _write(
        self, folder: str | Path, tensors: Tensors, max_shard_size: int | str, format: str
    ) -> None:
        """Save a model with tensors as its parameters, by canonical name."""
        config = type(self.config).from_dict(self.config.to_dict())
        config.architectures = [find_head(self.head).class_name]
        config.dtype = str(next(iter(tensors.values())).dtype)
        options = GenerationConfig.from_model(self.config, self.own_options)
        with byte_progress(tensors, "Saving") as counted:
            save_checkpoint(
                folder_named(folder),
                config,
                options,
                counted,
                format=format,
                max_shard_size=max_shard_size,
                add_files=lambda new: add_tokenizer(new, self.source_folder, config),
                ggml=GgmlOptions(vocabulary=vocabulary_of(self.source_folder)),
            )

    @UnlessALayer  # of that name, which the classification head has
    def score(
        self,
        texts: Text | Texts | Tensor,
        *,
        continuations: Texts | Sequence[Texts] | None = None,
        tokenizer: GPTJTokenizer | None = None,
        batch_size: int = 8,
        stride: int | None = None,
        bos: bool = False,
    ) -> Score | list[Score] | list[list[Score]]:
        """Tell how likely texts are, token by token, or continuations of them.

        Args:
            texts: a string, a list of token ids, or a list of either. Every token is scored given
                those before it, so the first one only with `bos`.
            continuations: a list of strings, for all texts alike, or such a list per text: then
                these are scored, given the text. Blanks at the end of the text go over to them.
            tokenizer: that of the folder which the model was loaded from, or GPT-J's own, if None.
            batch_size: texts that are computed at once; they are sorted by length.
            stride: lets texts be longer than the context, and scores them in windows that each
                advance so many tokens; a token has at least ``n_positions - stride`` before it.
            bos: put ``<|endoftext|>`` before every text, so that its first token is scored too.

        Returns:
            A ``gptj.scoring.perplexity.Score``, or a list of them for a list of texts. With
            continuations a list for every text; the largest `total`, or `per_byte`, is the answer
            of a multiple choice.

        Raises:
            ArgumentError: for what is none of these.
            InputError, TokenOutOfRange, SequenceTooLong: for a text that is empty, was encoded for
                another model, or is too long without a stride.
            UnsupportedFeature: for a model without a language-model head.
        """
        return score_texts.score(
            self.backend,
            self,
            texts,
            continuations=continuations,
            tokenizer=tokenizer,
            batch_size=batch_size,
            stride=stride,
            bos=bos,
        )

    def module_names(self) -> list[str]:
        """Return the names that `trace` takes, in order of computation, the same in every backend.

        For example ``transformer.h.1.mlp.fc_out``; without ``transformer.`` in a base model.
        """
        return module_names(self.config, self.head)

    def trace(
        self,
        input_ids: TensorLike | None = None,
        names: str | Iterable[str] | None = None,
        **inputs: Any,
    ) -> dict[str, npt.NDArray[Any]]:
        """Return what named modules compute, without dropout, on the plain eager path.

        Args:
            input_ids: (B, T) token ids, or `inputs_embeds` among the other inputs instead.
            names: names of modules, as `module_names` lists them, or patterns of the shell: either
                ``"transformer.h.1.mlp.fc_out"`` or ``"transformer.h.*.mlp.fc_out"``.
            inputs: other inputs of the model, by name.

        Returns:
            Arrays by name, in the order of `names`: (B, T, width), in the dtype of the computation.

        Raises:
            ArgumentError: without names, for a text, and for an unknown name, with the nearest.
        """
        if names is None or isinstance(input_ids, str):
            raise ArgumentError(HOW_TO_TRACE)
        wanted = [names] if isinstance(names, str) else names
        names = find_module_names(self.config, self.head, wanted)
        backend = self.backend
        given = {"input_ids": input_ids, **inputs}
        tensors = {
            name: backend.from_numpy(value, self) if _is_array(value) else value
            for name, value in given.items()
            if value is not None
        }
        _, captured = backend.capture(self, names, **tensors)
        unused = [name for name in names if captured.get(name) is None]
        if unused:
            raise ArgumentError(f"{choices(unused)} takes no part in a call with these inputs.")
        return {name: backend.to_numpy(captured[name]) for name in names}

    def resize_token_embeddings(
        self, new_num_tokens: int | None = None, pad_to_multiple_of: int | None = None
    ) -> Any:
        """Give the model a vocabulary of another size, and return its word table.

        The word table and the weight and bias of a language-model head grow by rows that are drawn
        like those of a new model, or lose their last rows. Compile a Keras model again, and make a
        new optimizer: the parameters are other objects.

        Args:
            new_num_tokens: the new size; the present one if None.
            pad_to_multiple_of: round the size up to a multiple of this.

        Raises:
            ArgumentError: for what is not a positive integer.
        """
        size = padded_size(new_num_tokens, self.config.vocab_size, pad_to_multiple_of)
        if size != self.config.vocab_size:
            params = resized_parameters(self.config, self.head, self.whole_params(), size)
            self.backend.resize(self, size, params)
        return self.get_input_embeddings()

    def get_input_embeddings(self) -> Any:
        """Return the word table in the framework's own form."""
        raise NotImplementedError  # every backend has one


def _is_array(value: object) -> bool:
    return isinstance(value, list) or hasattr(value, "shape")
