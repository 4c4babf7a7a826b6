"""The report as text for a terminal: the verdict first, then a line per backend."""

from typing import Any

Numbers = dict[str, Any]


def verdict(content: Numbers) -> str:
    """Return in one sentence whether everything agrees, and where it first does not."""
    found = [
        (dtype, name, result)
        for dtype, run in content["runs"].items()
        for name, result in run["backends"].items()
    ]
    if content["passed"]:
        systems = ", ".join(dict.fromkeys(name for _, name, _ in found))
        return f"PASS: {systems} agree with the float64 oracle in {', '.join(content['runs'])}."
    wrong = [f"{name} in {dtype} {_what(r)}" for dtype, name, r in found if not r["passed"]]
    return f"FAIL: {'; '.join(wrong) or 'nothing could be compared'}."


def render(content: Numbers) -> str:
    """Return the whole report."""
    lines = [verdict(content), "", f"{content['checkpoint']}, head {content['head']}"]
    for dtype, run in content["runs"].items():
        lines += ["", f"{dtype}, largest differences from the oracle:"]
        lines.append(
            f"  {'':8} {'hidden':>9} {'attention':>9} {'output':>9} {'KL':>9} {'top-1':>6}"
        )
        for name, result in run["backends"].items():
            lines += _backend(name, result)
    return "\n".join(lines)


def place(name: str) -> str:
    """Return a module's name in words: ``layer 1, attn.q_proj``."""
    parts = name.removeprefix("transformer.").split(".")
    if parts[0] != "h":
        return ".".join(parts)
    return f"layer {parts[1]}" + (f", {'.'.join(parts[2:])}" if parts[2:] else "")


def largest(result: Numbers, kind: str) -> float | None:
    """Return the largest difference among hidden states, attentions or the head's output."""
    found = [numbers["max"] for numbers in result["modules"] if kind_of(numbers["name"]) == kind]
    return max(found, default=None)


def kind_of(name: str) -> str:
    """Return what a module's output is in the report."""
    parts = name.removeprefix("transformer.").split(".")
    if name.endswith("attn.probs"):
        return "attention"
    if parts[0] in ("wte", "ln_f") or (parts[0] == "h" and len(parts) == 2):
        return "hidden"
    return "inside" if parts[0] == "h" else "output"


def _backend(name: str, result: Numbers) -> list[str]:
    tokens = result.get("next_token")
    cells = [_number(largest(result, kind)) for kind in ("hidden", "attention", "output")]
    cells.append(_number(tokens and tokens["kl_max"]))
    top = f"{tokens['top1']:6.1%}" if tokens else "     -"
    lines = [f"  {name:8} {' '.join(cells)} {top}  {_what(result)}"]
    if "loss" in result:
        loss = result["loss"]
        lines.append(f"  {'':8} loss {loss['found']:.6f}, off by {loss['max']:.1e}")
    if result["gradients"]:
        worst = result["gradients"]["worst"]
        lines.append(f"  {'':8} worst gradient off by {worst['max']:.1e}: {worst['name']}")
    return lines + [f"  {'':8} {what}: {why}" for what, why in result["notes"].items()]


def _number(value: float | None) -> str:
    return f"{value:9.1e}" if value is not None else f"{'-':>9}"


def _what(result: Numbers) -> str:
    first = result["first"]
    if result["passed"]:
        return "ok" if result["modules"] else "-"
    if first:
        where = place(first["name"])
        return f"is first off at {where}: {first['max']:.1e}, allowed {first['limit']:.1e}"
    worst = result["gradients"] and result["gradients"]["worst"]
    if worst and worst["max"] > worst["limit"]:
        return f"is off in the gradient of {worst['name']}: {worst['max']:.1e}"
    return "is off in the loss"
