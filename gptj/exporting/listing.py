"""The targets as a table for a terminal."""

from gptj.exporting.table import TARGETS
from gptj.exporting.target import Target, install, missing

COLUMNS = ("target", "runs in", "heads", "dtypes", "")


def listing() -> str:
    """Return one line per target, with what is missing for it."""
    rows = [COLUMNS, *map(_row, TARGETS.values())]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def _row(target: Target) -> tuple[str, ...]:
    lacking = missing({**target.writers, **target.runtime})
    heads = "all" if len(target.heads) > 1 else target.heads[0]
    dtypes = ", ".join((*target.dtypes, *target.quantizations))
    state = f"needs: {install(lacking)}" if lacking else "installed"
    return target.name, target.summary, heads, dtypes, state
