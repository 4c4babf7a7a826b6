"""From a configuration to a model with new weights."""

from typing import TYPE_CHECKING

from gptj.contract.backend import AnyBackend
from gptj.errors import ArgumentError
from gptj.model.load_options import changed, default_dtype, require, split_options
from gptj.spec import config as spec
from gptj.spec.config import dtype_name
from gptj.spec.types import Device, DType

if TYPE_CHECKING:
    from gptj.model.pretrained import Pretrained


def new_model(
    backend: AnyBackend,
    head: str,
    config: spec.GPTJConfig,
    *,
    dtype: DType = "auto",
    torch_dtype: DType | None = None,
    device: Device | None = None,
    **options: object,
) -> "Pretrained":
    """Return a backend's model with new weights.

    Args:
        config: of this package; transformers' own is not.
        dtype: as in `load_model`; ``"auto"`` takes the framework's, the configuration's, else
            float32.
        options: as there, as far as they do not say where files are.

    Raises:
        ArgumentError: for another kind of configuration, or an option that is not known.
        UnsupportedFeature: for a dtype that the backend does not have.
    """
    if not isinstance(config, spec.GPTJConfig):
        raise ArgumentError(
            f"from_config takes a GPTJConfig; found a {type(config).__name__}. "
            "GPTJConfig.from_dict(config.to_dict()) makes one of another package's."
        )
    changes, own = split_options(backend, options)
    config = changed(config, changes) if changes else config
    name = dtype_name(dtype if torch_dtype is None else torch_dtype)
    if name in (None, "auto"):
        name = default_dtype(backend) or config.dtype or "float32"
    wanted = str(name)
    require(backend, "dtype", wanted, backend.capabilities.dtypes)
    return backend.build(config, head, params=None, dtype=wanted, device=device, **own)
