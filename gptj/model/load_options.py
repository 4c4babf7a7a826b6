"""What a caller gives to make a model: fields of the configuration, and options of a backend."""

from collections.abc import Mapping
from typing import Any, Final

from gptj.checkpoint.memory_map import DTYPES as STORED
from gptj.contract.backend import AnyBackend, HasDefaultDtype
from gptj.errors import ArgumentError, UnsupportedFeature, choices, suggest
from gptj.model.config import WITHOUT_EFFECT as FOR_CONFIGS
from gptj.model.config import GPTJConfig
from gptj.model.options import FlaxOptions, LoadOptions, TorchOptions
from gptj.spec import config as spec
from gptj.spec.config import DTYPES, argument_names

WITHOUT_EFFECT: Final = frozenset(
    ("from_pt", "from_tf", "from_flax", "low_cpu_mem_usage", "use_safetensors", *FOR_CONFIGS)
)
"""Arguments that other libraries need and this one does not; accepted for the sake of old code."""

OWN_OPTIONS: Final = {
    "torch": frozenset(TorchOptions.__annotations__) - frozenset(LoadOptions.__annotations__),
    "flax": frozenset(FlaxOptions.__annotations__) - frozenset(LoadOptions.__annotations__),
}
"""What only one of the backends takes."""

PLACING: Final = ("device_map", "max_memory", "sharding")
"""Options that say where parts of a model go."""


def changed(config: spec.GPTJConfig, changes: Mapping[str, Any]) -> GPTJConfig:
    """Return a configuration with other values in some of its fields."""
    return GPTJConfig.from_dict(config.to_dict(), **changes)


def split_options(
    backend: AnyBackend, options: Mapping[str, object]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tell fields of the configuration from options of the backend; refuse the rest."""
    fields = argument_names()
    own = set(backend.build_options)
    unknown = options.keys() - fields - own - WITHOUT_EFFECT
    if unknown:
        known = [*fields, *own, *WITHOUT_EFFECT]
        hints = "".join(_elsewhere(name) or suggest(name, known) for name in sorted(unknown))
        raise ArgumentError(
            f"Loading has no argument {choices(sorted(unknown))}.{hints} Accepted are the fields "
            f"of GPTJConfig and, for the backend {backend.name!r}, "
            f"{choices(sorted(own)) or 'no more'}."
        )
    changes = {name: value for name, value in options.items() if name in fields}
    return changes, {name: value for name, value in options.items() if name in own}


def _elsewhere(name: str) -> str:
    """Return which backend has an option, and what serves in its place, or nothing."""
    owners = [backend for backend, options in OWN_OPTIONS.items() if name in options]
    if not owners:
        return ""
    instead = " One device for the whole model is device='gpu:0'." if name in PLACING else ""
    return f" {name!r} is an option of the backend {choices(owners)}.{instead}"


def default_dtype(backend: AnyBackend) -> str | None:
    """Return the dtype that the user has set for all models of a framework, None if there is none.

    Raises:
        UnsupportedFeature: for one that the backend does not have.
    """
    name = backend.default_dtype() if isinstance(backend, HasDefaultDtype) else None
    if name is not None and name not in backend.capabilities.dtypes:
        raise UnsupportedFeature(
            f"The backend {backend.name!r} does not have the dtype {name!r}, which is set for all "
            f"models of its framework. It has {choices(backend.capabilities.dtypes)}: set one of "
            "them, or give the model a dtype of its own with dtype=."
        )
    return name


def require(backend: AnyBackend, what: str, value: str, accepted: tuple[str, ...]) -> None:
    """Refuse what a backend does not have.

    Args:
        what: the kind of thing: a head, a dtype.
    """
    if value not in accepted:
        known = "" if what != "dtype" or value in STORED else suggest(value, DTYPES)
        raise UnsupportedFeature(
            f"The backend {backend.name!r} does not have the {what} {value!r}.{known} "
            f"It has {choices(accepted) or 'none'}."
        )
