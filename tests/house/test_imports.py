"""What importing gptj loads and costs: frameworks stay out until a backend is asked for."""

import subprocess
import sys

import pytest

from modules import FILES, FRAMEWORKS, backend_of, room_of

pytestmark = pytest.mark.frameworks

LIMIT = 0.2  # seconds that importing gptj may take
OTHERS = ("__main__", "integrations")  # the second needs what it integrates with
NEUTRAL_MODULES = [n for n in FILES if not backend_of(n) and room_of(n) not in OTHERS]


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
    assert {"gptj.cli", "gptj.model.pretrained", "gptj.tokenizer"} < set(NEUTRAL_MODULES)
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


def test_help_is_short_and_imports_no_framework():
    text = run("import gptj, pydoc; print(pydoc.plaintext.document(gptj))")
    assert 'gptj.load("demo", backend="torch")' in text
    assert len(text.splitlines()) < 80
    assert frameworks_after(["gptj", "pydoc; pydoc.plaintext.document(gptj)"]) == []
