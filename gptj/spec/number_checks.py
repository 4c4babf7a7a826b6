"""Which values of a configuration count as numbers: those that JSON has, and booleans do not.

The options of generate() also take NumPy's: see ``gptj.generation.option_rules``.
"""


def is_plain_number(value: object) -> bool:
    """Return whether a value is an int or a float of Python."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_positive_int(value: object) -> bool:
    """Return whether a value is an integer above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
