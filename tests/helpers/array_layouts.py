"""Arrays as users hand them over: the same numbers, laid out otherwise."""


def in_other_order(array):
    """Return the same numbers in the byte order that this machine does not have."""
    return array.astype(array.dtype.newbyteorder())


def read_only(array):
    """Return a copy that cannot be written to."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy
