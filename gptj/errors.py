"""The errors of the package: each is also the builtin that callers already catch.

Every class takes one message string and nothing else: TensorFlow's autograph, and pickles, make an
exception anew as ``type(error)(message)``. Keras leaves ours as they are. A message says what was
wrong, what was found, what is accepted and what to do.
"""

import difflib
import reprlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

QUOTED: Final = 120
"""Characters of a stranger's value that a message quotes."""


class GPTJError(Exception):
    """Anything that gptj raises on purpose."""

    # Keras puts an error without this into another one, whose message has all arguments of a layer
    _keras_call_info_injected = True

    if not TYPE_CHECKING:  # where it would hide that these are exceptions
        __init__ = Exception.__init__  # TensorFlow's autograph rebuilds such errors, and only such


class ConfigError(GPTJError, ValueError):
    """A configuration with an unknown or impossible value."""


class ArgumentError(GPTJError, TypeError, ValueError):
    """An argument that is unknown, missing, or excluded by another one."""


class InputError(GPTJError, ValueError):
    """A model input of the wrong shape, dtype or value."""


class TokenOutOfRange(GPTJError, IndexError, ValueError):
    """A token id outside the vocabulary, or a position outside the context."""


class SequenceTooLong(GPTJError, IndexError, ValueError):
    """More tokens than the context holds."""


class CheckpointError(GPTJError, OSError, ValueError):
    """Files that are missing, damaged, or hold other tensors than the model needs."""


class TokenizerError(GPTJError, ValueError):
    """Text or token ids that the tokenizer cannot take, or tokenizer files it cannot read."""


class DataError(GPTJError, OSError, ValueError):
    """Training data that is missing, unreadable, empty, or of another format."""


class TrainingError(GPTJError, ArithmeticError):
    """A training that cannot continue because its loss is not finite."""


class ExportError(GPTJError, RuntimeError):
    """An export that its runtime does not run, or not with the numbers of the model."""


class BackendUnavailable(GPTJError, ImportError):
    """A backend whose framework is not installed, or set up for something else."""


class UnsupportedFeature(GPTJError, NotImplementedError, ValueError):
    """A request that the chosen backend declares it cannot fulfil."""


def brief(value: object) -> str:
    """Return the ``repr`` of a value from a file, cut short; a nested one takes no time."""
    shortener = reprlib.Repr()
    shortener.maxlevel, shortener.maxlist, shortener.maxtuple, shortener.maxdict = 2, 4, 4, 4
    shortener.maxstring = shortener.maxother = shortener.maxlong = QUOTED
    try:
        return shortener.repr(value)
    except ValueError:  # Python writes no integer of more than 4,300 digits
        return "a number of thousands of digits"


def choices(names: Iterable[object]) -> str:
    """Return the names, quoted and joined, for the end of a message; long ones are cut."""
    return ", ".join(brief(name) for name in names)


def suggest(name: str, known: Iterable[str]) -> str:
    """Return ``" Did you mean 'x'?"`` for the known name nearest to `name`, or nothing."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""
