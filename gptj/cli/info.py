"""``gptj info``: show what is installed, and the devices."""

import json
from importlib import metadata
from typing import Any

import click

from gptj.backends import backend_names, is_installed
from gptj.cli.quiet_start import start_backend
from gptj.system.machine import own_versions
from gptj.system.versions import install_command

EXAMPLES = """\b
Examples:
  gptj info
  gptj info --json
"""

PACKAGES = ("numpy", "ml_dtypes", "safetensors", "tokenizers", "huggingface_hub")


@click.command(epilog=EXAMPLES)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def info(as_json: bool) -> None:
    """Show versions, the backends found, and their devices."""
    found = {
        **own_versions(),
        "packages": {name: metadata.version(name) for name in PACKAGES},
        "backends": {name: _describe(name) for name in backend_names()},
    }
    click.echo(json.dumps(found, indent=2) if as_json else _table(found))


def _describe(name: str) -> dict[str, Any]:
    """Return a backend's versions, devices and capabilities, or why it cannot be used."""
    if not is_installed(name):
        return {"installed": False, "install": install_command(name)}
    try:
        backend = start_backend(name)
    except Exception as error:  # a broken framework must not hide the others
        return {"installed": True, "error": f"{type(error).__name__}: {error}"}
    return {
        "installed": True,
        "versions": backend.versions(),
        "devices": backend.devices(),
        "heads": list(backend.capabilities.heads),
        "dtypes": list(backend.capabilities.dtypes),
        "quantization": list(backend.capabilities.quantization),
        "kernels": backend.kernels(),
    }


def _table(found: dict[str, Any]) -> str:
    lines = [f"gptj {found['gptj']} on Python {found['python']}"]
    lines.append(", ".join(f"{name} {number}" for name, number in found["packages"].items()))
    for name, backend in found["backends"].items():
        lines.append("")
        if "versions" not in backend:
            state = backend.get("error") or f"not installed; {backend['install']}"
            lines.append(f"{name:6} {state}")
            continue
        versions = ", ".join(f"{package} {v}" for package, v in backend["versions"].items())
        lines.append(f"{name:6} {versions}")
        for field in ("devices", "heads", "dtypes", "quantization"):
            lines.append(f"       {field}: {', '.join(backend[field])}")
        lines += [f"       matmuls in {name}: {what}" for name, what in backend["kernels"].items()]
    return "\n".join(lines)
