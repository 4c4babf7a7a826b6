"""Make the environment of the peers: transformers in its three frameworks, and CTranslate2.

    python benchmarks/peers.py FOLDER

What is there already stays; so the command may be given twice.
"""

import subprocess
import sys
import venv
from pathlib import Path

PACKAGES = (
    "transformers==4.56.2",  # the last of its releases with TensorFlow and Flax
    "torch==2.13.0",
    "tensorflow-cpu==2.21.0",
    "tf-keras==2.21.0",
    "jax==0.10.2",
    "flax==0.12.8",
    "optax==0.2.8",
    "ctranslate2==4.8.5",
    "numpy==2.4.6",
    "ml_dtypes",
    "safetensors==0.8.0",
)


def python_of(folder):
    """Return the Python of an environment."""
    return Path(folder) / "bin" / "python"


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    if not python_of(folder).exists():
        venv.create(folder, with_pip=True)
    subprocess.run([python_of(folder), "-m", "pip", "install", *PACKAGES], check=True)
    print(f"python benchmarks/compare.py RESULTS --peers {folder}")


if __name__ == "__main__":
    main()
