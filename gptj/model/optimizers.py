"""Optimizers: the state of Adam goes to a file, and on in whatever framework reads it."""

from pathlib import Path
from typing import Any, ClassVar, TypeVar, overload

from gptj.checkpoint.optimizer_file import read_optimizer, write_optimizer
from gptj.contract.backend import AnyBackend
from gptj.contract.trainer import Optimizer
from gptj.errors import ArgumentError, UnsupportedFeature
from gptj.system.atomic import folder_named

OptimizerT = TypeVar("OptimizerT")


class Optimizers:
    """The state of a model's optimizer; models of all backends inherit it.

    Together with the weights it is all that a training needs to resume, in any framework:
    the two moments of every parameter that is trained, the number of updates, betas and epsilon.
    Learning rate and weight decay are set where the optimizer is made.
    """

    backend: ClassVar[AnyBackend]

    def save_optimizer(self, folder: str | Path, optimizer: Optimizer | None = None) -> None:
        """Write the state of Adam to ``optimizer.safetensors``, which every backend can load.

        Args:
            folder: made if it is not there; what it holds stays whole if anything fails.
            optimizer: ``torch.optim.Adam`` or ``AdamW``; one of Keras's two, the one that the
                model was compiled with if None; in Flax the state of an Optax transformation, over
                ``params`` or, with an adapter, over ``params["lora"]``.

        Raises:
            ArgumentError: for another optimizer, or one of another model.
            CheckpointError: if the folder cannot be written.
            UnsupportedFeature: for a backend without optimizers, and for an optimizer with arrays
                besides the moments, such as accumulated gradients, momentum or averages of weights.
        """
        backend, optimizer = self._find_optimizer("save_optimizer()", optimizer)
        write_optimizer(folder_named(folder), backend.dump_optimizer(self, optimizer))

    @overload
    def load_optimizer(self, folder: str | Path, optimizer: None = None) -> Any: ...
    @overload
    def load_optimizer(self, folder: str | Path, optimizer: OptimizerT) -> OptimizerT: ...
    def load_optimizer(self, folder: str | Path, optimizer: Optimizer | None = None) -> Any:
        """Give an optimizer the state that `save_optimizer` wrote, in whatever framework.

        Its learning rate and decay stay. Moments take the dtype and place that they have there.

        Args:
            folder: what `save_optimizer` was given, or the file in it.
            optimizer: as for `save_optimizer`, new or used. Keras's own Adam gets the epsilon that
                is right at the next update; ``gptj.backends.tf.optimizer.AdamW`` is right at all.

        Returns:
            The optimizer; in Flax the new state, as Optax changes none.

        Raises:
            ArgumentError: for another optimizer, or one of another model.
            CheckpointError: if the file is missing or damaged, or is not of just the parameters
                that are trained.
            UnsupportedFeature: for a backend without optimizers.
        """
        backend, optimizer = self._find_optimizer("load_optimizer()", optimizer)
        trained = backend.dump_optimizer(self, optimizer).first
        shapes = {name: tensor.shape for name, tensor in trained.items()}
        state = read_optimizer(Path(folder), shapes)
        return backend.load_optimizer(self, optimizer, state)

    def _find_optimizer(
        self, call: str, optimizer: Optimizer | None
    ) -> tuple[AnyBackend, Optimizer]:
        """Return the backend and the optimizer, which may be the model's own."""
        backend = self.backend
        if not backend.capabilities.optimizers:
            raise UnsupportedFeature(f"The backend {backend.name!r} has no optimizers.")
        found = getattr(self, "optimizer", None) if optimizer is None else optimizer
        if found is None:
            raise ArgumentError(
                f"{call} needs the optimizer, and found none: give torch.optim.AdamW, an AdamW of "
                "Keras, or the state of optax.adamw. Only a compiled Keras model has its own."
            )
        return backend, found
