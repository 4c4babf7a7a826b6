"""Which device each module of a model goes to: whole blocks, in the order of the computation.

Pure arithmetic on names and bytes: a backend asks the machine, and moves the modules.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from gptj.errors import ArgumentError, choices, suggest
from gptj.spec.byte_sizes import readable_size
from gptj.spec.config import GPTJConfig
from gptj.spec.heads import find_head
from gptj.spec.params import parameter_table

CPU: Final = "cpu"

Sizes = Mapping[str, int]
"""Bytes by name: of a unit of modules that stay together, or of a device's memory."""


def units(config: GPTJConfig, head: str) -> dict[str, str]:
    """Return the unit of every placed module, named by its first module.

    The head goes with the final norm, or with the word table if they are tied.
    """
    base, own = find_head(head).prefix, find_head(head).modules
    blocks = (f"{base}h.{layer}" for layer in range(config.n_layer))
    alone = (f"{base}wte", *blocks, f"{base}ln_f")
    partner = f"{base}wte" if config.tie_word_embeddings else f"{base}ln_f"
    follows = {module: partner if module == "lm_head" else f"{base}ln_f" for module in own}
    return {module: module for module in alone} | follows


def unit_sizes(config: GPTJConfig, head: str, itemsize: int) -> dict[str, int]:
    """Return the bytes of every unit's parameters, in the order of the computation."""
    unit_of = units(config, head)
    sizes = dict.fromkeys(unit_of.values(), 0)
    for name, parameter in parameter_table(config, head).items():
        sizes[unit_of[module_of(name, unit_of)]] += parameter.nbytes(itemsize)
    return sizes


def module_of(name: str, modules: Iterable[str]) -> str:
    """Return the module that a parameter belongs to."""
    return next(module for module in modules if name.startswith(f"{module}."))


def place(sizes: Sizes, budgets: Sizes) -> dict[str, str]:
    """Return a device for every unit: each device takes as many as fit, then the next one.

    Every device keeps room for one more unit of the largest size, for caches and intermediate
    results.

    Args:
        sizes: bytes of every unit, in the order of the computation.
        budgets: bytes that every device offers, in the order in which they are filled.

    Raises:
        ArgumentError: if some units do not fit.
    """
    placed = _fill(sizes, budgets)
    if len(placed) < len(sizes):
        needed, margin = sum(sizes.values()), max(sizes.values())
        offers = ", ".join(f"{name} {readable_size(size)}" for name, size in budgets.items())
        raise ArgumentError(
            f"The model does not fit on the devices: it needs {readable_size(needed)}, and on every"
            f" device that it uses {readable_size(margin)} more for its work. Offered are "
            f"{offers or 'none'}, which leaves {len(sizes) - len(placed)} of {len(sizes)} parts "
            "without a place. Offer more in max_memory, or load in a smaller dtype."
        )
    return placed


def balance(sizes: Sizes, budgets: Sizes) -> Sizes:
    """Return the smallest equal budgets with which the model fits without the CPU.

    The budgets stay as they are if it does not fit.
    """
    unit_bytes, margin = list(sizes.values()), max(sizes.values())
    starts = range(len(unit_bytes))
    runs = {sum(unit_bytes[first : last + 1]) for first in starts for last in starts[first:]}
    for share in sorted(runs):
        lowered = {
            device: min(budget, share + margin)
            for device, budget in budgets.items()
            if device != CPU
        }
        if len(_fill(sizes, lowered)) == len(sizes):
            return lowered
    return budgets


def follow_keys(device_map: Mapping[str, str], config: GPTJConfig, head: str) -> dict[str, str]:
    """Return a device for every module, from the key that is its name or its longest prefix.

    Raises:
        ArgumentError: for a key that is not a whole module, and for a module without a key.
    """
    unit_of = units(config, head)
    _check_keys(device_map, list(unit_of))
    found = {}
    for module, unit in unit_of.items():
        tied = module == "lm_head" and config.tie_word_embeddings and module not in device_map
        keys = [key for key in device_map if _covers(key, unit if tied else module)]
        if keys:
            found[module] = device_map[max(keys, key=len)]
    _check_places(found, unit_of, config)
    return found


def _fill(sizes: Sizes, budgets: Sizes) -> dict[str, str]:
    """Return a device for the first units, until the budgets are used up."""
    margin = max(sizes.values())
    placed: dict[str, str] = {}
    waiting = list(sizes)
    for device, budget in budgets.items():
        left = budget - margin
        while waiting and sizes[waiting[0]] <= left:
            left -= sizes[waiting[0]]
            placed[waiting.pop(0)] = device
    return placed


def _covers(key: str, module: str) -> bool:
    return key in ("", module) or module.startswith(f"{key}.")


def _check_keys(device_map: Mapping[str, str], modules: list[str]) -> None:
    """Refuse keys that are not whole modules or prefixes of them."""
    without_weights = modules[0].replace("wte", "drop")  # other libraries place it too
    for key in device_map:
        part_of = next((module for module in modules if str(key).startswith(f"{module}.")), None)
        if part_of is not None:
            raise ArgumentError(
                f"device_map names {key!r}, a part of {part_of!r}, which is placed whole: give "
                f"{part_of!r} a device instead."
            )
        if not any(_covers(str(key), module) for module in (*modules, without_weights)):
            raise ArgumentError(
                f"device_map names {key!r}, which the model does not have."
                f"{suggest(str(key), modules)} Keys are '' for all, the beginning of a name, or "
                f"{modules[0]!r}, {modules[1]!r} and so on to {modules[-1]!r}."
            )


def _check_places(found: Mapping[str, str], unit_of: Mapping[str, str], config: GPTJConfig) -> None:
    """Refuse modules without a device, and a tied head far from its word table."""
    missing = [module for module in unit_of if module not in found]
    if missing:
        raise ArgumentError(
            f"device_map has no device for {choices(missing)}: add their names, the beginning of "
            "them, or '' for all the rest."
        )
    table = next(iter(unit_of))
    if config.tie_word_embeddings and found.get("lm_head", found[table]) != found[table]:
        raise ArgumentError(
            f"device_map puts 'lm_head' on {found['lm_head']!r} and {table!r} on {found[table]!r}, "
            "but with tie_word_embeddings they are one table: give both the same device."
        )
