"""The registry: which backends there are, and how to get one without importing the others."""

import importlib
import importlib.util
from importlib.metadata import entry_points
from typing import Final, cast

from gptj.contract.backend import Backend
from gptj.errors import ArgumentError, BackendUnavailable, choices, suggest
from gptj.system.versions import install_command

FRAMEWORKS: Final = {
    "torch": "torch",
    "tf": "tensorflow",
    "flax": "flax",
}
"""Name of a backend -> the framework it stands on, in the order of preference."""

ENGINES: Final = {
    "onnxruntime": "onnxruntime",
    "openvino": "openvino",
    "ctranslate2": "ctranslate2",
    "vllm": "vllm",
}
"""Name of a backend -> the engine that runs a converted model."""

BUILT_IN: Final = {**FRAMEWORKS, "numpy": "numpy", **ENGINES}
"""Name of a built-in backend -> the package it stands on."""

ALIASES: Final = {
    "pytorch": "torch",
    "pt": "torch",
    "tensorflow": "tf",
    "keras": "tf",
    "jax": "flax",
}

ENTRY_POINTS: Final = "gptj.backends"
"""Entry-point group through which other distributions add backends."""


def backend_names() -> list[str]:
    """Return the names of all backends, built in and plugged in."""
    return [*BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINTS))]


def is_installed(name: str) -> bool:
    """Return whether the package under a backend is there, without importing it."""
    return name not in BUILT_IN or importlib.util.find_spec(BUILT_IN[name]) is not None


def default_backend() -> str:
    """Return the first backend whose framework is installed, NumPy's if none is."""
    return installed_frameworks()[0]


def installed_frameworks() -> list[str]:
    """Return the backends whose frameworks are installed, NumPy's alone if none is."""
    return [name for name in FRAMEWORKS if is_installed(name)] or ["numpy"]


def resolve_name(name: str | None) -> str:
    """Return the one name of a backend, given that or an alias; None asks for the default.

    Raises:
        ArgumentError: for an unknown name, with those accepted.
    """
    if name is None:
        return default_backend()
    resolved = ALIASES.get(str(name), str(name))
    known = backend_names()
    if resolved not in known:
        hint = suggest(str(name), [*known, *ALIASES])
        raise ArgumentError(
            f"Unknown backend {name!r}.{hint} Accepted are {choices(known)} "
            f"and the aliases {choices(ALIASES)}."
        )
    return resolved


def get_backend(name: str | None = None) -> Backend:
    """Return a backend, importing its framework; see ``gptj.backends.base.Backend``.

    Raises:
        ArgumentError: for an unknown name.
        BackendUnavailable: if the framework is not installed, naming the extra that installs it.
            One that is installed but broken shows its own error.
    """
    resolved = resolve_name(name)
    if resolved not in BUILT_IN:
        points = [p for p in entry_points(group=ENTRY_POINTS) if p.name == resolved]
        if len({point.value for point in points}) > 1:
            raise ArgumentError(
                f"Several distributions plug in a backend {resolved!r}: "
                f"{choices(point.value for point in points)}. Uninstall all but one."
            )
        return cast(Backend, points[0].load())
    if not is_installed(resolved):
        raise BackendUnavailable(
            f"The backend {resolved!r} needs {BUILT_IN[resolved]}, which is not installed. "
            f"Install it with: {install_command(resolved)}."
        )
    module = importlib.import_module(f"gptj.backends.{resolved}.backend")
    return cast(Backend, module.BACKEND)
