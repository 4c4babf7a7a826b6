"""Which Python values count as numbers: booleans do not."""


def is_number(value: object) -> bool:
    """Return whether a value is an integer or a float."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_positive_int(value: object) -> bool:
    """Return whether a value is an integer above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
