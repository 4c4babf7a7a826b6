"""Which files a report is about."""

import hashlib
from pathlib import Path


def file_hashes(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file with weights, and of the configuration."""
    found = {}
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob("config.json")]):
        with path.open("rb") as file:
            found[path.name] = hashlib.file_digest(file, "sha256").hexdigest()
    return found
