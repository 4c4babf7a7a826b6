"""How far a runtime is from the float64 oracle, measured on the files that were written."""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gptj.backends import FRAMEWORKS, get_backend, is_installed
from gptj.exporting.cases import Case, expected, make_cases
from gptj.exporting.source import Source
from gptj.exporting.target import Floats, Runner
from gptj.exporting.texts import compare_texts
from gptj.exporting.tolerances import RATIO, TOLERANCES
from gptj.generation.logits_pipeline import log_softmax
from gptj.parity.compare import difference
from gptj.parity.tolerances import Tolerance

Numbers = dict[str, Any]
Wanted = dict[str, npt.NDArray[np.float64]]

NO_CACHE: Final = "the files have no cache"


def prove(source: Source, runner: Runner, tolerance: Tolerance | None) -> Numbers:
    """Run written files on fixed inputs, and return how far they are from the oracle.

    The oracle takes the weights as they are in the source's dtype.

    Args:
        tolerance: None where no difference is too large, as with quantized weights.

    Returns:
        What ``parity.json`` says of it: `passed`, `error`, `tolerance`, `cases`, `not_run`, `own`
        and `texts`.
    """
    cases = make_cases(source.config, runner)
    wanted = expected(source, cases)
    numbers = [
        found
        for case, fields in zip(cases, wanted, strict=True)
        for found in _compared(source, runner, case, fields)
    ]
    is_usual = source.dtype != "float32" and tolerance is TOLERANCES[source.dtype]
    own = own_error(source, cases, wanted) if is_usual else None
    for found in numbers:
        found["limit"] = _limit(found, tolerance, own)
    run = {found["case"] for found in numbers}
    texts = compare_texts(source, runner) if source.head == "causal_lm" else None
    limits = [found["limit"] for found in numbers if found["limit"] is not None]
    return {
        "passed": all(map(_is_fine, numbers)) and not _is_wrong(texts, limits),
        "error": max(numbers, key=lambda found: found["max"]),
        "tolerance": _described(tolerance, own),
        "cases": numbers,
        "not_run": {case.name: NO_CACHE for case in cases if case.name not in run},
        "own": own,
        "texts": texts,
    }


def own_error(source: Source, cases: list[Case], wanted: list[Wanted]) -> Numbers | None:
    """Return the largest error of this package's own model in the same dtype.

    None where no framework is installed.
    """
    name = next((name for name in FRAMEWORKS if is_installed(name)), None)
    if name is None:
        return None
    backend, model, largest = get_backend(name), source.build(name), 0.0
    for case, fields in zip(cases, wanted, strict=True):
        inputs = {"input_ids": case.ids, "attention_mask": case.mask}
        tensors = {key: backend.from_numpy(array, model) for key, array in inputs.items()}
        output = backend.forward(model, **tensors)
        kept = ... if source.is_pooled else case.mask != 0
        for field in source.fields:
            found = np.asarray(backend.to_numpy(output[field]))
            largest = max(largest, difference(found[kept], fields[field][kept])[0])
    return {"backend": name, "max": largest}


def _compared(source: Source, runner: Runner, case: Case, wanted: Wanted) -> Iterator[Numbers]:
    """Yield the differences of every output of a case."""
    for name, found in _outputs(source, runner, case).items():
        values = log_softmax(wanted["logits"]) if name == "log_probs" else wanted[name]
        found = np.asarray(found)
        if not source.is_pooled:
            values = values[case.kept(runner.every_position)]
            found = found[case.mask != 0] if runner.every_position else found[:, -1]
        largest, rms = difference(found, values)
        size = float(np.sqrt(np.mean(np.square(values))))
        shape = dict(zip(("batch", "length"), case.ids.shape, strict=True))
        yield {"case": case.name, **shape, "output": name, "max": largest, "rms": rms, "size": size}


def _outputs(source: Source, runner: Runner, case: Case) -> dict[str, Floats]:
    """Return what the runtime computes; nothing where a case needs a cache and there is none."""
    if case.prefilled is None:
        return runner.outputs(case.ids, case.mask)
    found = runner.cached(case.ids, case.mask, case.prefilled)
    return {} if found is None else {source.fields[0]: found}


def _limit(found: Numbers, tolerance: Tolerance | None, own: Numbers | None) -> float | None:
    if own is not None and tolerance is not None:
        return RATIO * float(own["max"])
    return None if tolerance is None else tolerance.scale * max(1.0, found["size"])


def _described(tolerance: Tolerance | None, own: Numbers | None) -> str:
    """Return by what rule the errors are judged."""
    if tolerance is None:
        return "none: quantized weights are other numbers, and the errors are for you to judge"
    if own is not None:
        return f"{RATIO:g} times the largest error of gptj's own model in this dtype"
    return f"{tolerance.scale:g} times max(1, RMS of the oracle's outputs): {tolerance.reason}"


def _is_fine(found: Numbers) -> bool:
    return bool(
        found["max"] <= (np.finfo(np.float64).max if found["limit"] is None else found["limit"])
    )


def _is_wrong(texts: Numbers | None, limits: list[float]) -> bool:
    """Return whether a token differs where no error within the limits can explain it."""
    if texts is None or not limits:
        return False
    return any(text["margin"] > 2 * max(limits) for text in texts["differences"])
