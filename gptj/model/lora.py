"""Adapters (LoRA): a few small weights that are trained while the model's own stay as they are."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, Unpack

import numpy as np

from gptj import hub
from gptj.checkpoint.adapter_files import read_adapter, write_adapter
from gptj.contract.backend import AnyBackend
from gptj.errors import ArgumentError, CheckpointError, UnsupportedFeature
from gptj.hub.options import HubOptions
from gptj.model.options import LoraOptions
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import find_head
from gptj.spec.lora import (
    LoraConfig,
    adapter_shapes,
    lora_layers,
    modules_trained_whole,
    new_adapter,
)
from gptj.spec.quantization import check_trainable
from gptj.spec.tensors import LazyTensor, Tensors
from gptj.system.atomic import folder_named

ModelT = TypeVar("ModelT", bound="Adapters")


class Adapters:
    """Adapters of a model; models of all backends inherit it.

    Attributes:
        lora: what the model's adapter is, None where it has none.
        lora_is_merged: whether the adapter is part of the weights at the moment.
        loaded_as: the name and the revision that the model was loaded by, without any adapter.
    """

    backend: ClassVar[AnyBackend]
    head: ClassVar[str]
    config: GPTJConfig
    loaded_as: tuple[str, str | None] = ("", None)
    lora: LoraConfig | None = None
    lora_is_merged: bool = False

    def add_lora(
        self,
        rank: int = 8,
        alpha: float = 16,
        dropout: float = 0.0,
        targets: str | Iterable[str] = ("q_proj", "v_proj"),
        seed: int = 0,
        *,
        modules_to_save: Iterable[str] | None = None,
        use_rslora: bool = False,
        rank_pattern: Mapping[str, int] | None = None,
        alpha_pattern: Mapping[str, float] | None = None,
    ) -> Self:
        """Give the model a new adapter, which is all that is trained from here on.

        Outputs stay as they are until it is trained. Its weights are float32 whatever the model's
        dtype. One seed gives the same adapter on every backend. In PyTorch and Keras the flags of
        the parameters say what is trained, and a Keras model must be compiled again; in Flax
        it is the tree ``model.params["lora"]``.

        Args:
            rank: the smaller size of the two matrices per layer.
            alpha: the update is scaled by ``alpha / rank``.
            dropout: the chance of every input of an adapter to be dropped while training.
            targets: linear layers by the last part or parts of their names: ``"q_proj"``,
                ``"k_proj"``, ``"v_proj"``, ``"out_proj"``, ``"fc_in"``, ``"fc_out"``,
                ``"lm_head"``, ``"h.0.attn.q_proj"``; or ``"all-linear"``, all but ``"lm_head"``.
            modules_to_save: modules of the head that are trained whole, in place, and saved with
                the adapter; ``"score"`` or ``"qa_outputs"``, where the head has it, if None.
            use_rslora: scale by ``alpha / sqrt(rank)`` instead.
            rank_pattern, alpha_pattern: another rank or alpha for some layers, by name.

        Returns:
            The model.

        Raises:
            ArgumentError: for values that make no sense, unknown layers, and a second adapter.
            UnsupportedFeature: for a backend without adapters.
        """
        whole = modules_trained_whole(self.head) if modules_to_save is None else modules_to_save
        lora = LoraConfig(
            rank=rank,
            alpha=alpha,
            dropout=dropout,
            targets=targets,  # type: ignore[arg-type]  # made a tuple there
            modules_to_save=tuple(whole),
            use_rslora=use_rslora,
            rank_pattern=dict(rank_pattern or {}),
            alpha_pattern=dict(alpha_pattern or {}),
        )
        adapter_shapes(lora, self.config, self.head)  # refuses what this model does not have
        return self._put_adapter(lora, new_adapter(lora, self.config, self.head, seed))

    def load_lora(self, name: str | Path, **where: Unpack[HubOptions]) -> Self:
        """Give the model an adapter that `save_lora` or PEFT wrote, and return the model.

        Further training continues with it.

        Args:
            name: a folder, or a hub id with or without ``@revision``; of that the two files of an
                adapter are downloaded, whatever else it has.
            where: `revision`, `subfolder`, `cache_dir`, `local_files_only`, `token` and
                `force_download`, as in ``gptj.hub.locate``.

        Raises:
            CheckpointError: if a file is missing or damaged, asks for more than LoRA, or has other
                tensors than this model needs.
            ArgumentError: if the model has an adapter already.
        """
        folder = hub.locate_adapter(name, **where)
        lora, tensors, copies = read_adapter(folder, self.config, self.head)
        self._check_copies(copies, name)
        return self._put_adapter(lora, tensors)

    def save_lora(self, folder: str | Path, *, base_model: str | None = None) -> None:
        """Write the adapter as PEFT does: ``adapter_config.json``, ``adapter_model.safetensors``.

        For a classification a ``config.json`` beside them names its labels. `gptj.load` of the
        folder gives the model and the adapter together.

        Args:
            folder: made if it is not there; what it holds stays whole if anything fails.
            base_model: the name that readers find the model by; what it was loaded by if None.

        Raises:
            ArgumentError: if the model has no adapter.
            CheckpointError: if the folder cannot be written.
        """
        lora = self._require_adapter("save_lora()")
        name, revision = (base_model, None) if base_model else self.loaded_as
        tensors = self.backend.dump_adapter(self)
        write_adapter(
            folder_named(folder),
            lora,
            self.head,
            tensors,
            name or None,
            revision,
            add_files=self._save_labels,
        )

    def _save_labels(self, folder: Path) -> None:
        """Write the configuration of a classification, which has its labels."""
        if self.head == "sequence_classification":
            config = type(self.config).from_dict(self.config.to_dict())
            config.architectures = [find_head(self.head).class_name]
            config.save_pretrained(folder)

    def merge_lora(self) -> Self:
        """Add the adapter to the weights, which makes the model as fast as without; return it.

        The weights of its layers are kept beside the new ones, so that `unmerge_lora` brings them
        back bit for bit; `remove_lora` drops them.

        Raises:
            ArgumentError: if there is no adapter, or it is merged already.
            UnsupportedFeature: for a language-model head that is tied to the word table, and for
                quantized weights.
        """
        check_trainable(self.config, "merge_lora()")
        lora = self._require_adapter("merge_lora()", merged=False)
        layers = lora_layers(lora, self.config, self.head)
        if self.config.tie_word_embeddings and "lm_head" in layers:
            raise UnsupportedFeature(
                "The adapter of 'lm_head' cannot be merged: the head reads the word table, which "
                "would change with it. Use the model unmerged, or leave 'lm_head' out of targets."
            )
        self.backend.merge_adapter(self)
        self.lora_is_merged = True
        return self

    def unmerge_lora(self) -> Self:
        """Bring back, bit for bit, the weights from before `merge_lora`; return the model.

        Raises:
            ArgumentError: if there is no adapter, or it is not merged.
        """
        self._require_adapter("unmerge_lora()", merged=True)
        self.backend.unmerge_adapter(self)
        self.lora_is_merged = False
        return self

    def remove_lora(self) -> Self:
        """Let go of the adapter, and let all parameters be trained again; return the model.

        A merged adapter stays in the weights for good. Modules that were trained whole stay as
        they are.

        Raises:
            ArgumentError: if there is no adapter.
        """
        self._require_adapter("remove_lora()")
        self.backend.remove_adapter(self)
        self.lora, self.lora_is_merged = None, False
        return self

    def whole_params(self) -> dict[str, LazyTensor]:
        """Return the parameters by canonical name, if they are all that the model is.

        Raises:
            ArgumentError: for an adapter that is not merged, which they would lack.
        """
        self.check_whole()
        params: dict[str, LazyTensor] = self.backend.dump_params(self)
        return params

    def check_whole(self) -> None:
        """Refuse an adapter that is not merged, which the parameters would lack.

        Raises:
            ArgumentError: saying what to do with it.
        """
        if self.lora is not None and not self.lora_is_merged:
            raise ArgumentError(
                "The model has an adapter that is not part of its weights. Call merge_lora() "
                "first, or remove_lora() to go without; save_lora(folder) saves it alone."
            )

    def _put_adapter(self, lora: LoraConfig, tensors: Tensors) -> Self:
        backend = self.backend
        require_adapters(backend)
        if self.lora is not None:
            raise ArgumentError(
                "The model has an adapter already. Call remove_lora() first; to keep what it does, "
                "merge_lora() before that."
            )
        backend.add_adapter(self, lora, tensors)
        self.lora = lora
        return self

    def _require_adapter(self, call: str, merged: bool | None = None) -> LoraConfig:
        """Return the adapter, if there is one in this state."""
        if self.lora is None:
            raise ArgumentError(f"{call} needs an adapter: call add_lora() or load_lora() first.")
        if merged not in (None, self.lora_is_merged):
            state = "is merged already" if self.lora_is_merged else "is not merged"
            raise ArgumentError(f"{call} was called, but the adapter {state}.")
        return self.lora

    def _check_copies(self, copies: Tensors, folder: str | Path) -> None:
        """Refuse an adapter that brings other weights for a layer than this model has."""
        own = self.backend.dump_params(self) if copies else {}
        for name, copy in copies.items():
            same = name in own and np.array_equal(
                np.asarray(copy.read(), np.float32), np.asarray(own[name].read(), np.float32)
            )
            if not same:
                raise CheckpointError(
                    f"{folder} belongs to a model with another {name}, of which it brings a copy. "
                    "Load that model, and the adapter into it."
                )


def require_adapters(backend: AnyBackend) -> None:
    """Refuse a backend without adapters.

    Raises:
        UnsupportedFeature: naming it.
    """
    if not backend.capabilities.adapters:
        raise UnsupportedFeature(
            f"The backend {backend.name!r} has no adapters. Load the model in torch, tf or flax; "
            "there merge_lora() and save_pretrained(folder) make a checkpoint for every backend."
        )


def add_lora(model: ModelT, *args: Any, **options: Unpack[LoraOptions]) -> ModelT:
    """Give a model of any backend a new adapter, and return it; see `Adapters.add_lora`."""
    return model.add_lora(*args, **options)


def load_lora(model: ModelT, name: str | Path, **where: Unpack[HubOptions]) -> ModelT:
    """Give a model the adapter of a folder or a hub id; see `Adapters.load_lora`."""
    return model.load_lora(name, **where)
