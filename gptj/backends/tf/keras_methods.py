"""Methods of Keras's own models that would do nothing here, or something else than they say."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn
from zipfile import ZipFile

import h5py
import keras

from gptj.backends.tf.layers import QUANTIZE
from gptj.checkpoint.folder import open_checkpoint
from gptj.checkpoint.parameter_matching import match_parameters
from gptj.contract.backend import AnyBackend
from gptj.errors import ArgumentError, UnsupportedFeature, choices
from gptj.spec.config import GPTJConfig
from gptj.spec.lora import LoraConfig

if TYPE_CHECKING:
    from gptj.backends.tf.pretrained import TFPretrained

Shape = tuple[int | None, ...]

FILES: Final = (".safetensors", ".bin", ".msgpack", ".npz")
"""What files of weights end in that Keras cannot read, and this package can; ``.h5`` is both's."""


class KerasMethods:
    """A model whose inherited methods keep their word."""

    backend: ClassVar[AnyBackend]
    config: GPTJConfig
    head: ClassVar[str]
    lora: LoraConfig | None

    def summary(self, *args: object, **options: object) -> None:
        """Print the layers, their output shapes and their parameters."""
        with shown(self):  # type: ignore[arg-type]
            super().summary(*args, **options)  # type: ignore[misc]

    def save(self, filepath: str | Path, *args: object, **options: object) -> None:
        """Write a file of Keras's.

        Raises:
            UnsupportedFeature: for Keras's old form, of which Keras would open nothing again.
        """
        if str(filepath).endswith((".h5", ".hdf5")):
            raise UnsupportedFeature(
                f"{filepath}: Keras finds no classes of other packages in its old form, and would "
                "not open the file again. Use save('model.keras'), save_weights('a.weights.h5'), "
                "or save_pretrained(folder, format='h5')."
            )
        super().save(filepath, *args, **options)  # type: ignore[misc]

    def quantize(self, *args: object, **options: object) -> NoReturn:
        """Refuse: layers of this package take quantized weights when they are made."""
        raise UnsupportedFeature(QUANTIZE)

    def load_weights(self, filepath: str | Path, *args: object, **options: object) -> None:
        """Load weights: a file of Keras's, or a checkpoint, a folder or a file, of any framework.

        Raises:
            ArgumentError: for a checkpoint, with options of Keras's; for an adapter that this
                model does not have, which Keras would leave out without a word.
            CheckpointError: for one that does not fit this model.
        """
        if not is_checkpoint(Path(filepath)):
            if self.lora is None and not options.get("skip_mismatch"):
                check_adapter(Path(filepath))
            return super().load_weights(filepath, *args, **options)  # type: ignore[misc]
        if args or options.get("skip_mismatch"):
            raise ArgumentError(
                f"{filepath} is a checkpoint, which load_weights reads whole: it takes no "
                f"{choices(options) or 'more'} with it. gptj.load has ignore_mismatched_sizes."
            )
        checkpoint = open_checkpoint(Path(filepath))
        tensors = checkpoint.tensors
        with checkpoint.kept():
            found = match_parameters(self.config, self.head, tensors, str(filepath))
            self.backend.load_params(self, found)


def is_checkpoint(path: Path) -> bool:
    """Return whether weights are in a form of this package's, and not in one of Keras's."""
    if path.is_dir():
        return (path / "config.json").is_file()
    if path.suffix == ".h5" and not path.name.endswith(".weights.h5") and path.is_file():
        with h5py.File(path) as file:
            return "model_weights" not in file  # where Keras's old form has them
    return path.suffix in FILES


def check_adapter(path: Path) -> None:
    """Refuse a file of Keras's that holds an adapter, for a model without one.

    Raises:
        ArgumentError: with the layers that have it, and its rank.
    """
    if not path.name.endswith((".weights.h5", ".keras")) or not path.is_file():
        return  # Keras says what is wrong
    with open_weights(path) as file:
        names: list[str] = []
        file.visit(names.append)
        downs = [name for name in names if name.endswith("/adapter/vars/0")]
        if downs:
            layers = {name.split("/")[-4] for name in downs}
            rank = file[downs[0]].shape[-1]  # (in, r)
            raise ArgumentError(
                f"{path} holds an adapter of rank {rank} on {choices(sorted(layers))}, and the "
                "model has none, so that Keras would leave it out. Call model.add_lora with the "
                "same options first; or keras.models.load_model reads a .keras file with its "
                "adapter; or give skip_mismatch=True to leave it out."
            )


@contextmanager
def open_weights(path: Path) -> Iterator[h5py.File]:
    """Open the weights of a file of Keras's, which in a ``.keras`` file are one of several."""
    with ExitStack() as stack:
        source: Any = path
        if path.suffix == ".keras":
            archive = stack.enter_context(ZipFile(path))
            source = stack.enter_context(archive.open("model.weights.h5"))
        yield stack.enter_context(h5py.File(source))


@contextmanager
def shown(model: "TFPretrained") -> Iterator[None]:
    """Give layers the names and shapes that Keras shows of functional models.

    Keras shows a block by the last part of its path, which is a number, and finds out no shape of a
    layer that was not built by one.
    """
    shapes, blocks = _shapes(model), model.get_base().h
    before = {layer: layer._build_shapes_dict for layer in shapes}
    try:
        for layer, shape in shapes.items():
            vars(layer).update(output_shape=shape, _build_shapes_dict={"input_shape": shape})
        for number, block in enumerate(blocks):
            block.name = f"h.{number}"
        yield
    finally:
        for layer, built in before.items():
            del vars(layer)["output_shape"]
            layer._build_shapes_dict = built
        for number, block in enumerate(blocks):
            block.name = str(number)


def _shapes(model: "TFPretrained") -> dict[keras.Layer, Shape]:
    """Return the shape of what every shown layer returns; B and T are None."""
    base, config = model.get_base(), model.config
    hidden = (None, None, config.n_embd)
    found: dict[keras.Layer, Shape] = dict.fromkeys(
        [base.wte, base.drop, *base.h, base.ln_f], hidden
    )
    found[base.rotary] = (None, 1, None, base.rotary.sin.shape[-1])
    if base is not model:
        found[base] = hidden
        head = next(layer for layer in model.layers if layer is not base)
        pooled = model.head == "sequence_classification"
        found[head] = (None, head.outputs) if pooled else (None, None, head.outputs)
    return found
