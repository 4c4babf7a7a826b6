"""From nothing to a result: the time to import a library, and to the demo model's first tokens."""

import os
import subprocess
import sys
from tempfile import TemporaryDirectory
from time import perf_counter

IMPORTS = {
    "import gptj": "import gptj",
    "import gptj's torch backend": "import gptj.backends.torch.backend",
    "import gptj's tf backend": "import gptj.backends.tf.backend",
    "import gptj's flax backend": "import gptj.backends.flax.backend",
}
"""What is measured -> code for a fresh interpreter, here and with the peers."""

PEERS = {
    "import transformers' torch model": "from transformers import GPTJForCausalLM",
    "import transformers' tf model": "from transformers import TFGPTJForCausalLM",
    "import transformers' flax model": "from transformers import FlaxGPTJForCausalLM",
    "import CTranslate2": "import ctranslate2",
}
FIRST = "gptj generate, first token of the demo model, "
TEXT = "gptj generate, 20 tokens of the demo model, "

CACHES = {
    "tf": {"TF_XLA_FLAGS": "--tf_xla_persistent_cache_directory={folder}"},
    "flax": {
        "JAX_COMPILATION_CACHE_DIR": "{folder}",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    },
}
"""Backend -> the environment in which its framework keeps what it has compiled in a folder."""


def measure_startup(log, repeat, peers):
    """Time processes from their start to their end, in turns, as often as is still missing."""
    runs = {name: ([sys.executable, "-c", code], {}) for name, code in IMPORTS.items()}
    runs |= {name: ([peers, "-c", code], {}) for name, code in PEERS.items()}
    for backend in ("torch", "tf", "flax"):
        runs[FIRST + backend] = (_generate(backend, 1), {})
        runs[TEXT + backend] = (_generate(backend, 20), {})
    with TemporaryDirectory() as folder:
        for backend, variables in CACHES.items():
            kept = {name: value.format(folder=folder) for name, value in variables.items()}
            name, run = f"{TEXT}{backend}, compiled before", (_generate(backend, 20), kept)
            runs[name] = run
            if len(log.find("startup", name=name)) < repeat:
                _seconds(*run)  # compiles
        for repetition in range(repeat):
            for name, run in runs.items():
                if len(log.find("startup", name=name)) <= repetition:
                    log.add("startup", name=name, seconds=_seconds(*run))


def _generate(backend, tokens):
    """Return the command that writes so many tokens at once."""
    options = ["--backend", backend, "--max-new-tokens", str(tokens), "--no-stream"]
    return [sys.executable, "-m", "gptj", "generate", "def f", *options]


def _seconds(command, variables):
    """Return how long a process takes, or None if it fails."""
    environment = {**os.environ, **variables}
    start = perf_counter()
    result = subprocess.run(command, env=environment, capture_output=True, check=False)
    return perf_counter() - start if result.returncode == 0 else None
