"""Who imports whom: frameworks stay out until a backend is asked for."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "gptj"
FRAMEWORKS = ("torch", "tensorflow", "keras", "jax", "flax", "optax", "optree", "transformers")
OWN_FRAMEWORKS = {
    "backends.torch": {"torch"},
    "backends.tf": {"tensorflow", "keras", "optree"},
    "backends.flax": {"jax", "flax", "optax"},
}
LIMIT = 0.2  # seconds that importing gptj may take

TOKENIZER = {
    "tokenizer",
    "tokenizer_files",
    "tokenizer_windows",
    "token_table",
    "encoding",
}
HUB = {"hub", "hub_files", "hub_errors"}
FILES_AND_TEXT = {"errors", "spec", "checkpoint", "generation", "companions", *HUB, *TOKENIZER}
# the base of all models, and its parts
SHARED = {"pretrained", "loading", "adapters", "optimizers", "text_generation"}
NEUTRAL = {*FILES_AND_TEXT, *SHARED, "progress", "conversion", "scoring"}
# what stands on models and is no part of them
ON_TOP = {"bench", "parity", "planning", "prediction", "training"}
MACHINE = {"memory", "processor"}
IN_A_BACKEND = {"errors", "spec", "generation", "pretrained", "backends", *MACHINE}
MAY_IMPORT = {
    "": {"errors", "distribution", "backends"},  # gptj/__init__.py resolves names by importlib
    "__main__": {"cli"},
    "errors": set(),
    "distribution": set(),
    "spec": {"errors", "hub"},  # the hub inside GPTJConfig.from_pretrained alone
    "checkpoint": {"errors", "spec", "generation"},  # generation_config.json is part of a save
    "generation": {"errors", "spec"},
    **{name: {"errors", "checkpoint", "generation", "companions", *HUB} for name in HUB},
    "progress": {"spec"},
    "memory": set(),
    "processor": set(),
    "planning": {*FILES_AND_TEXT, "memory", "backends"},
    "companions": {"spec", *TOKENIZER},
    "conversion": {*FILES_AND_TEXT, "progress"},
    "backends": {"errors", "distribution", "spec", "generation"},
    "scoring": {"errors", "spec", "generation", "companions", *TOKENIZER},
    "datasets": {"errors", "distribution", "spec", *TOKENIZER},
    "text_generation": {"errors", "spec", "generation", "companions", "backends"},
    "adapters": {"errors", "spec", "checkpoint", "hub", "backends"},
    "optimizers": {"errors", "checkpoint", "backends"},
    "loading": {*FILES_AND_TEXT, "progress", "adapters"},
    "pretrained": {*FILES_AND_TEXT, *SHARED, "progress", "scoring", "backends"},
    **{name: {"errors", "distribution", "spec", "hub", *TOKENIZER} for name in TOKENIZER},
    "api": {*NEUTRAL, "backends"},
    "bench": {*FILES_AND_TEXT, *MACHINE, "distribution", "planning", "backends", "api"},
    "prediction": {*FILES_AND_TEXT, "loading", "scoring", "datasets", "backends"},
    "training": {"", *FILES_AND_TEXT, "datasets", "distribution", "backends"},
    "cli": {"", *NEUTRAL, "distribution", "backends", "api", *ON_TOP},
    "parity": {*NEUTRAL, "memory", "distribution", "backends", "api"},
    **{name: {*IN_A_BACKEND, name} for name in OWN_FRAMEWORKS},
}
"""Every part of the package -> the parts that it may import, besides itself."""

FILES = {
    ".".join(("gptj", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(
        ".__init__"
    ): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
"""Every module of the package -> its file."""


def part_of(module):
    """Return the part that a module belongs to: ``gptj.backends.tf.cache`` -> ``backends.tf``."""
    parts = module.split(".")[1:]
    inside = ".".join(parts[:2])
    return inside if inside in OWN_FRAMEWORKS else ".".join(parts[:1])


def imported_by(path):
    """Return the full names of the modules that a file imports, on whatever level."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            # what is imported may be a module itself
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= (inside & FILES.keys()) or {node.module}
    return found


NEUTRAL_MODULES = [name for name in FILES if part_of(name) not in (*OWN_FRAMEWORKS, "__main__")]


def run(code):
    """Run code in a fresh interpreter, and return what it printed."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def frameworks_after(modules):
    imports = "; ".join(f"import {module}" for module in modules)
    code = f"{imports}; import sys; print(*(n for n in {FRAMEWORKS} if n in sys.modules))"
    return run(code).split()


def test_importing_gptj_loads_no_framework():
    assert frameworks_after(["gptj"]) == []


def test_importing_every_neutral_module_loads_no_framework():
    assert {"gptj.cli", "gptj.pretrained", "gptj.tokenizer"} < set(NEUTRAL_MODULES)
    assert frameworks_after(NEUTRAL_MODULES) == []


def test_importing_gptj_is_fast():
    code = "import time; t = time.perf_counter(); import gptj; print(time.perf_counter() - t)"
    assert min(float(run(code)) for _ in range(5)) < LIMIT


def test_the_public_names_are_there_before_they_are_imported():
    listed = run("import gptj; print(*dir(gptj))").split()
    assert {"load", "load_tokenizer", "GPTJConfig", "GPTJForCausalLM", "__version__"} <= {*listed}


def test_a_wrong_public_name_suggests_the_nearest():
    import gptj

    with pytest.raises(
        AttributeError, match=r"no attribute 'GPTJConfg'. Did you mean 'GPTJConfig'"
    ):
        _ = gptj.GPTJConfg


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_only_the_parts_that_it_may(module):
    part = part_of(module)
    assert part in MAY_IMPORT, f"gptj.{part} is not in the table of this test"
    targets = {part_of(name) for name in imported_by(FILES[module]) if name.split(".")[0] == "gptj"}
    assert targets - {part} <= MAY_IMPORT[part]


@pytest.mark.parametrize("module", FILES)
def test_a_module_imports_no_framework_but_its_own(module):
    found = {name.split(".")[0] for name in imported_by(FILES[module])} & {*FRAMEWORKS}
    assert found <= OWN_FRAMEWORKS.get(part_of(module), set())


def test_the_specification_asks_the_hub_in_one_place_only():
    asking = [
        name for name in FILES if part_of(name) == "spec" and "gptj.hub" in imported_by(FILES[name])
    ]
    assert asking == ["gptj.spec.config"]
