"""Tells Keras the names of the package's classes as soon as Keras is imported, by whomever.

A saved model names its class, and Keras finds only what is registered. The backend registers its
classes when it is imported, which `import gptj` does not do; so Keras gets the names alone, with
what imports the classes on first use.
"""

import importlib
import sys
from collections.abc import Mapping, Sequence
from importlib.abc import Loader
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Final

KERAS: Final = "keras"


class NamedClass:
    """Stands for a class in Keras's registry, until the class itself takes its place there."""

    def __init__(self, module: str, name: str) -> None:
        self.module, self.name = module, name

    def from_config(self, config: Mapping[str, object]) -> object:
        """Import the class, and return what it makes of a saved configuration."""
        return getattr(importlib.import_module(self.module), self.name).from_config(config)


class WhenImported:
    """Finds Keras as the finders after it would, and registers the names once Keras has run."""

    def __init__(self, classes: Mapping[str, str]) -> None:
        self.classes = classes

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how Keras is loaded; None for any other module, and where there is no Keras."""
        if name != KERAS:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            self._follow(spec.loader)
        return spec

    def _follow(self, loader: Loader) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            if self in sys.meta_path:
                sys.meta_path.remove(self)
            register(module, self.classes)

        loader.exec_module = exec_module  # type: ignore[method-assign]


def register(keras: ModuleType, classes: Mapping[str, str]) -> None:
    """Give Keras the names that it does not have yet; `classes` maps them to their modules."""
    if not hasattr(keras, "saving"):  # a Keras of before version 3, which has none of the classes
        return
    known = keras.saving.get_custom_objects()
    for name, module in classes.items():
        known.setdefault(f"gptj>{name}", NamedClass(module, name))


def register_when_imported(classes: Mapping[str, str]) -> None:
    """Give Keras names of classes, now or when it is imported; Keras is not imported for it."""
    keras = sys.modules.get(KERAS)
    if keras is not None and hasattr(keras, "saving"):
        register(keras, classes)
    else:
        sys.meta_path.insert(0, WhenImported(classes))
