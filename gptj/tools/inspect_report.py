"""An inspection as text, with similar layers in one line."""

import re
from typing import Any

from gptj.spec.byte_sizes import readable_size
from gptj.spec.quantization import QUANTIZERS


def as_text(content: dict[str, Any]) -> str:
    """Return the content of an `Inspection` as readable text."""
    size = readable_size(content["bytes"])
    lines = [
        f"{content['checkpoint']}: {content['form']}, {content['head']}, "
        f"{content['parameters']:,} parameters, {size}",
        f"weights sha256 {content['weights_sha256']}",
        "",
        *_table([(f["name"], readable_size(f["bytes"]), f["sha256"]) for f in content["files"]]),
        "",
        *_table(_groups(content["tensors"])),
        "",
    ]
    if adapter := content.get("adapter"):
        lines.append(
            f"adapter: rank {adapter['rank']}, alpha {adapter['alpha']:g}, on "
            f"{', '.join(adapter['targets'])}; {len(adapter['tensors'])} tensors. What is above is "
            f"its base model, {adapter['base']}"
        )
    if content.get("buffers"):
        lines.append(f"{len(content['buffers'])} old buffers, which are no parameters")
    if content.get("quantization"):
        quantizer = QUANTIZERS[content["quantization"]]
        lines.append(f"weights in {quantizer.name}, with a scale per {quantizer.unit}")
    if content.get("tokenizer"):
        lines.append(f"tokenizer {content['tokenizer']}, vocabulary {content['vocabulary']}")
    for name, option in sorted((content.get("generation") or {}).items()):
        lines.append(f"generation: {name} = {option['value']!r}, from {option['from']}")
    lines += [f"note: {note}" for note in content["notes"]]
    problems = content["problems"]
    lines += [f"problem: {problem}" for problem in problems] or ["nothing is wrong"]
    return "\n".join(lines)


def _groups(tensors: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return a row per kind of tensor: name, count, shape, dtype, size."""
    groups: dict[tuple[str, str, str], list[int]] = {}
    for name, tensor in tensors.items():
        shape = " x ".join(map(str, tensor["shape"])) or "one number"
        key = (re.sub(r"\bh\.\d+\.", "h.*.", name), shape, tensor["dtype"])
        groups.setdefault(key, []).append(tensor["bytes"])
    return [
        (
            name,
            f"{len(sizes)} of" if len(sizes) > 1 else "",
            shape,
            dtype,
            readable_size(sum(sizes)),
        )
        for (name, shape, dtype), sizes in groups.items()
    ]


def _table(rows: list[tuple[str, ...]]) -> list[str]:
    """Return rows with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
