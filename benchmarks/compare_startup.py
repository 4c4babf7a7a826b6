"""From nothing to a result: the time to import a library, and to the demo model's first token."""

import subprocess
import sys
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
DEMO = "gptj generate, first token of the demo model, "


def measure_startup(log, repeat, peers):
    """Time processes from their start to their end, in turns, as often as is still missing."""
    commands = {name: [sys.executable, "-c", code] for name, code in IMPORTS.items()}
    commands |= {name: [peers, "-c", code] for name, code in PEERS.items()}
    for backend in ("torch", "tf", "flax"):
        options = ["--backend", backend, "--max-new-tokens", "1"]
        command = [sys.executable, "-m", "gptj", "generate", "def f", *options]
        commands[DEMO + backend] = command
    for repetition in range(repeat):
        for name, command in commands.items():
            if len(log.find("startup", name=name)) <= repetition:
                log.add("startup", name=name, seconds=_seconds(command))


def _seconds(command):
    """Return how long a process takes, or None if it fails."""
    start = perf_counter()
    result = subprocess.run(command, capture_output=True, check=False)
    return perf_counter() - start if result.returncode == 0 else None
