"""The pickle inside a PyTorch checkpoint, read without running it.

Python's unpickler imports and calls whatever a file names. This reader only interprets the
instructions: names stay names, and the four calls that a table of tensors needs act on
descriptions. Nothing else can happen, whatever the file says.
"""

import pickletools
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, Final, NoReturn, TypeVar

from gptj.checkpoint.stored_numbers import read_shape, read_size
from gptj.errors import CheckpointError, brief


@dataclass(frozen=True)
class Name:
    """A name that a pickle would import."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Storage:
    """A flat array in the file: PyTorch's name of its type, its key, its length.

    Start and length count elements, or bytes where the storage itself has no type.
    """

    kind: str
    key: str
    size: int
    start: int = 0
    is_bytes: bool = False


@dataclass(frozen=True)
class View:
    """A tensor: a view of a storage; offset and strides count elements, not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


Kind = TypeVar("Kind")

_TUPLES: Final = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_CONSTANTS: Final = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_LITERALS: Final = frozenset(
    "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE BINUNICODE8 "
    "BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES".split()
)


def read_pickle(file: BinaryIO) -> Any:
    """Return the content of a pickle: numbers, text, tuples, lists, dicts and `View`s.

    The file's position is then after the pickle.

    Raises:
        CheckpointError: if it is damaged, or needs anything that a table of tensors does not.
    """
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(file):
            machine.step(opcode.name, argument)
        return machine.stack.pop()
    except CheckpointError:
        raise
    except Exception as error:  # damaged bytes can raise almost anything
        raise CheckpointError(f"the pickle is damaged or cut short: {brief(error)}") from error


class _Machine:
    """The stack machine that runs a pickle, reduced to tables of tensors."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def step(self, name: str, argument: object) -> None:
        """Interpret one instruction."""
        if name in _LITERALS:
            self.stack.append(argument)
        elif name in _CONSTANTS:
            self.stack.append(_CONSTANTS[name])
        elif name in _TUPLES:
            self._push_tuple(_TUPLES[name])
        else:
            action = getattr(self, f"_do_{name.lower()}", None)
            if action is None:
                raise CheckpointError(
                    f"its pickle has the instruction {name}, which no table of tensors needs. "
                    "Nothing was run. Save it again with torch.save(model.state_dict(), ...)"
                )
            action(argument)

    def _do_proto(self, version: int) -> None: ...

    def _do_frame(self, size: int) -> None: ...

    def _do_stop(self, _: None) -> None: ...

    def _do_global(self, names: str) -> None:
        self.stack.append(Name(*names.split(" ", 1)))

    def _do_stack_global(self, _: None) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(Name(_require(module, str), _require(name, str)))

    def _do_mark(self, _: None) -> None:
        self.marks.append(len(self.stack))

    def _do_empty_dict(self, _: None) -> None:
        self.stack.append({})

    def _do_empty_list(self, _: None) -> None:
        self.stack.append([])

    def _do_tuple(self, _: None) -> None:
        self.stack.append(tuple(self._since_mark()))

    def _do_append(self, _: None) -> None:
        value = self.stack.pop()
        _require(self.stack[-1], list).append(value)

    def _do_appends(self, _: None) -> None:
        values = self._since_mark()
        _require(self.stack[-1], list).extend(values)

    def _do_setitem(self, _: None) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _require(self.stack[-1], dict)[_key(key)] = value

    def _do_setitems(self, _: None) -> None:
        items = self._since_mark()
        target = _require(self.stack[-1], dict)
        for key, value in zip(items[::2], items[1::2], strict=True):
            target[_key(key)] = value

    def _do_binput(self, place: int) -> None:
        self.memo[place] = self.stack[-1]

    _do_long_binput = _do_binput

    def _do_memoize(self, _: None) -> None:
        self.memo[len(self.memo)] = self.stack[-1]

    def _do_binget(self, place: int) -> None:
        self.stack.append(self.memo[place])

    _do_long_binget = _do_binget

    def _do_binpersid(self, _: None) -> None:
        self.stack.append(_storage(self.stack.pop()))

    def _do_build(self, _: None) -> None:
        self.stack.pop()  # versions of the modules, which PyTorch attaches to the dict
        _require(self.stack[-1], dict)

    def _do_reduce(self, _: None) -> None:
        arguments, function = _require(self.stack.pop(), tuple), _require(self.stack.pop(), Name)
        self.stack.append(_call(str(function), arguments))

    def _push_tuple(self, count: int) -> None:
        values = tuple(self.stack[-count:])
        if len(values) < count:
            raise IndexError("the stack is empty")
        del self.stack[-count:]
        self.stack.append(values)

    def _since_mark(self) -> list[Any]:
        place = self.marks.pop()
        values = self.stack[place:]
        del self.stack[place:]
        return values


def _require(value: object, kind: type[Kind]) -> Kind:
    if not isinstance(value, kind):
        raise TypeError(f"a {type(value).__name__} stands where a {kind.__name__} should")
    return value


def _call(function: str, arguments: tuple[Any, ...]) -> Any:
    """Apply the named function to descriptions of tensors."""
    if function == "collections.OrderedDict" and not arguments:
        return {}
    if function in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor"):
        storage, offset, shape, strides = arguments[:4]
        _require(storage, Storage)
        return View(storage, read_size(offset), read_shape(shape), read_shape(strides))
    if function == "torch._utils._rebuild_tensor_v3":
        storage, offset, shape, strides, _, _, dtype = arguments[:7]
        typed = replace(_require(storage, Storage), kind=str(_require(dtype, Name)), is_bytes=True)
        return View(typed, read_size(offset), read_shape(shape), read_shape(strides))
    if function == "torch._utils._rebuild_parameter":
        return _require(arguments[0], View)
    if function == "torch.Size":
        return read_shape(arguments[0])
    _refuse(function)


def _refuse(function: str) -> NoReturn:
    raise CheckpointError(
        f"its pickle asks to call {function[:120]}, which no table of tensors does. Nothing was "
        "run. If you did not expect code in this file, do not open it with other programs; if you "
        "did, save it again with torch.save(model.state_dict(), ...)"
    )


def _storage(identity: object) -> Storage:
    """Return the storage of a persistent id: ("storage", type, key, place, length[, view])."""
    tag, *rest = _require(identity, tuple)
    if tag != "storage":
        raise CheckpointError(
            f"its pickle holds a {brief(tag)} and not a table of tensors. Nothing was run. Save it "
            "again with torch.save(model.state_dict(), ...)"
        )
    kind, key, _, size, *view = rest
    start = 0
    if view and view[0] is not None:
        _, start, size = view[0]
    return Storage(str(_require(kind, Name)), str(_key(key)), read_size(size), read_size(start))


def _key(value: object) -> str | int:
    """Return a key of a table: text, or a number as optimizers have."""
    if type(value) is not int and not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} stands where a name should")
    return value
