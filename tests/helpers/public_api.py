"""The public names and signatures, as text, and the snapshot of them that the tests hold.

Parameters have names, kinds and defaults, and no annotations: these may improve. To renew the
snapshot after a change that is meant, with all frameworks installed:

    python tests/helpers/public_api.py
"""

import importlib
import inspect
import json
import sys
from pathlib import Path

from paths import TESTS

SNAPSHOT = TESTS / "house" / "public_api.json"
RENEW = "If this change of the public names is meant, run: python tests/helpers/public_api.py"
DOCUMENTED = {
    "neutral": [
        "gptj.pretrained.Pretrained",
        "gptj.datasets.keras_batches",
        "gptj.datasets.shifted_targets",
        "gptj.datasets.output_signature",
        "gptj.backends.base.Backend",
        "gptj.backends.base.Capabilities",
        "gptj.backends.base.Trainer",
    ],
    "torch": ["gptj.backends.torch.parallel"],
    "tf": ["gptj.backends.tf.optimizer.AdamW"],
    "flax": ["gptj.backends.flax.parallel"],
}
"""Paths below ``gptj`` that pages name; of a module, all its public functions."""


def paths_of(section):
    """Return the dotted paths of the names that need this framework, or none."""
    import gptj

    def home(module):
        return module.split(".")[2] if module.startswith("gptj.backends.") else "neutral"

    names = [f"gptj.{name}" for name, module in gptj.PUBLIC.items() if home(module) == section]
    return names + DOCUMENTED[section]


def current(section):
    """Return a mapping of dotted paths to signatures, for one section of the snapshot."""
    found = {}
    for path in paths_of(section):
        found |= described(path, resolved(path))
    return dict(sorted(found.items()))


def resolved(path):
    """Return the object at a dotted path, of which the last name may be a module."""
    import gptj

    parent, _, name = path.rpartition(".")
    if parent == "gptj":  # `gptj.parity` is a package, too, which may have been imported
        module, _, other_name = gptj.PUBLIC[name].partition(":")
        return getattr(importlib.import_module(module), other_name or name)
    try:
        return getattr(importlib.import_module(parent), name)
    except AttributeError:
        return importlib.import_module(path)


def described(path, thing):
    """Return what a path leads to, and what is public below it."""
    if inspect.ismodule(thing):
        functions = inspect.getmembers(thing, inspect.isfunction)
        own = [f for name, f in functions if f.__module__ == path and name[0] != "_"]
        return {f"{path}.{f.__name__}": signature(f) for f in own}
    if thing.__name__ != path.rpartition(".")[2]:
        return {path: f"another name of {thing.__name__}"}
    if not inspect.isclass(thing):
        return {path: signature(thing)}
    return {path: made(thing)} | {f"{path}.{k}": member(v) for k, v in members(thing).items()}


def made(cls):
    """Return how an object of a class is made, or an empty text if that is the framework's."""
    owner = next(c for c in cls.__mro__ if "__init__" in vars(c))
    return signature(cls.__init__) if owner.__module__.startswith("gptj") else ""


def members(cls):
    """Return what classes of this package define for a class, and its call."""
    found = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("gptj"):
            found |= {k: v for k, v in vars(base).items() if k[0] != "_" or k == "__call__"}
    return found


def member(value):
    """Return the signature of a method, or what else an attribute is."""
    if isinstance(value, classmethod | staticmethod):
        return f"{type(value).__name__} {signature(value.__func__)}"
    if inspect.isfunction(value):
        return signature(value)
    return "property" if isinstance(value, property) else "attribute"


def signature(function):
    """Return the parameters of a function with their kinds and defaults."""
    found = inspect.signature(function)
    bare = [p.replace(annotation=p.empty) for p in found.parameters.values()]
    return str(found.replace(parameters=bare, return_annotation=found.empty))


def recorded(section):
    """Return a section of the snapshot."""
    return json.loads(SNAPSHOT.read_text(encoding="utf-8"))[section]


def differences(section):
    """Return what differs between the snapshot and what there is, one line each."""
    before, now = recorded(section), current(section)
    return [
        f"{path}: was {before.get(path, 'missing')}, is {now.get(path, 'missing')}"
        for path in sorted({*before, *now})
        if before.get(path) != now.get(path)
    ]


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else SNAPSHOT
    content = {section: current(section) for section in DOCUMENTED}
    target.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
