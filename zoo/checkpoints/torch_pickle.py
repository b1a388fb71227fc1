"""Reading the pickle inside a PyTorch file without unpickling anything.

A pickle is a program for a stack machine. The machine here knows containers,
numbers, strings and the five constructors that a `state_dict` is made of, and builds
inert descriptions of tensors from them. It never looks up a name, so there is no
code that a hostile file could reach; it is not built on `pickle.Unpickler`.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from zoo.checkpoints.checkpoint import CheckpointError
from zoo.checkpoints.torch_objects import (
    CONSTRUCTORS,
    STORAGE_DTYPES,
    Name,
    Storage,
    read_storage,
)

# A tensor takes about forty steps and three hundred bytes.
MAX_STEPS = 1_000_000
MAX_BYTES = 1 << 26


class _Mark:
    """Where the items of a container begin on the stack."""


class LimitedReader:
    """A binary stream that gives at most so many bytes in all.

    A pickle names lengths of up to 2**63; reading no more than there is keeps it
    from asking for that much memory.
    """

    def __init__(self, file: io.BufferedIOBase, limit: int) -> None:
        self._file = file
        self._left = limit

    def read(self, count: int) -> bytes:
        if not 0 <= count <= self._left:
            count = max(0, self._left)
        return self._take(self._file.read(count))

    def readline(self) -> bytes:
        return self._take(self._file.readline(self._left))

    def _take(self, data: bytes) -> bytes:
        self._left -= len(data)
        return data


@dataclass(frozen=True)
class Pickled:
    """What a pickle describes: its object, and every storage named in it."""

    root: Any
    storages: dict[str, Storage]


def read_pickle(file: io.BufferedIOBase, source: object) -> Pickled:
    """Run one pickle and return what it describes.

    Args:
        file: a stream at the beginning of the pickle; it is left behind its end.
        source: what to call the file in errors.

    Returns:
        The object, made of dicts, lists, tuples, strings, numbers, `Storage` and
        `StoredTensor`, and the storages by key.

    Raises:
        CheckpointError: the pickle holds anything but tensors and plain containers,
            or is damaged.
    """
    machine = _Machine(source)
    try:
        machine.run(LimitedReader(file, MAX_BYTES))
        return Pickled(machine.result(), machine.storages)
    except CheckpointError:
        raise
    except (ValueError, IndexError, TypeError, OverflowError) as error:
        raise CheckpointError(
            f"{source} holds a damaged pickle ({error!s:.200}). It is truncated or "
            "altered: fetch it again."
        ) from None


class _Machine:
    def __init__(self, source: object) -> None:
        self._source = source
        self.storages: dict[str, Storage] = {}
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self._stack) != 1:
            raise ValueError(f"it ends with {len(self._stack)} objects instead of one")
        return self._stack[0]

    def run(self, stream: LimitedReader) -> None:
        for _ in range(MAX_STEPS):
            code = stream.read(1)
            if code == b".":
                return
            self._step(code, stream)
        raise ValueError(f"it has more than {MAX_STEPS} steps")

    def _step(self, code: bytes, stream: LimitedReader) -> None:
        instruction = _INSTRUCTIONS.get(code)
        if instruction is None:
            raise ValueError(f"{code!r} is no instruction")
        name, read_argument = instruction
        action = _ACTIONS.get(name)
        if action is None and name not in _PUSH_ARGUMENT:
            raise CheckpointError(
                f"{self._source} uses the pickle instruction {name}, which no file of "
                "tensors needs. It may be hostile and was not loaded. If you trust "
                "its origin, load it there and save its tensors as safetensors."
            )
        argument = read_argument(stream) if read_argument else None
        if action is None:
            self._stack.append(argument)
        else:
            action(self, argument)

    def _pop(self) -> Any:
        value = self._stack.pop()
        if isinstance(value, _Mark):
            raise ValueError("a mark stands where an object should")
        return value

    def _top(self) -> Any:
        return self._stack[-1]

    def _pop_to_mark(self) -> list[Any]:
        items = []
        while not isinstance(value := self._stack.pop(), _Mark):
            items.append(value)
        return items[::-1]

    def _mark(self, _: Any) -> None:
        self._stack.append(_Mark())

    def _nothing(self, _: Any) -> None:
        pass

    def _pop_one(self, _: Any) -> None:
        self._stack.pop()

    def _dict(self, _: Any) -> None:
        self._stack.append({})

    def _list(self, _: Any) -> None:
        self._stack.append([])

    def _empty_tuple(self, _: Any) -> None:
        self._stack.append(())

    def _none(self, _: Any) -> None:
        self._stack.append(None)

    def _true(self, _: Any) -> None:
        self._stack.append(True)

    def _false(self, _: Any) -> None:
        self._stack.append(False)

    def _tuple(self, _: Any) -> None:
        self._stack.append(tuple(self._pop_to_mark()))

    def _tuple1(self, _: Any) -> None:
        self._short_tuple(1)

    def _tuple2(self, _: Any) -> None:
        self._short_tuple(2)

    def _tuple3(self, _: Any) -> None:
        self._short_tuple(3)

    def _short_tuple(self, count: int) -> None:
        items = [self._pop() for _ in range(count)]
        self._stack.append(tuple(items[::-1]))

    def _append(self, _: Any) -> None:
        self._extend([self._pop()])

    def _appends(self, _: Any) -> None:
        self._extend(self._pop_to_mark())

    def _extend(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, list):
            raise ValueError("something is appended to what is no list")
        target.extend(items)

    def _setitem(self, _: Any) -> None:
        value, key = self._pop(), self._pop()
        self._update([key, value])

    def _setitems(self, _: Any) -> None:
        self._update(self._pop_to_mark())

    def _update(self, items: list[Any]) -> None:
        target = self._top()
        if not isinstance(target, dict) or len(items) % 2:
            raise ValueError("something is set in what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing a tuple of tuples of tuples can take for ever, and so can
            # hashing a number of a million digits many times.
            small = isinstance(key, int) and key.bit_length() <= 64
            if not small and not isinstance(key, str | float | bytes | None):
                raise ValueError("a dict has a key that is neither string nor number")
            target[key] = value

    def _put(self, index: int) -> None:
        self._memo[index] = self._top()

    def _memoize(self, _: Any) -> None:
        self._memo[len(self._memo)] = self._top()

    def _get(self, index: int) -> None:
        if index not in self._memo:
            raise ValueError(f"it recalls object {index}, which it never stored")
        self._stack.append(self._memo[index])

    def _global(self, argument: str) -> None:
        self._push_name(argument.replace(" ", ".", 1))

    def _stack_global(self, _: Any) -> None:
        attribute, module = self._pop(), self._pop()
        if not isinstance(attribute, str) or not isinstance(module, str):
            raise ValueError("a name is not made of strings")
        self._push_name(f"{module}.{attribute}")

    def _push_name(self, name: str) -> None:
        if name not in STORAGE_DTYPES and name not in CONSTRUCTORS:
            raise CheckpointError(
                f"{self._source} asks for {name:.200}, and only tensors and plain "
                "containers are read. The file may be hostile; nothing of it was "
                "run. If you trust its origin, load it there and save its tensors "
                "as safetensors."
            )
        self._stack.append(Name(name))

    def _persistent_id(self, _: Any) -> None:
        storage = read_storage(self._pop())
        first = self.storages.setdefault(storage.key, storage)
        if (first.dtype, first.numel) != (storage.dtype, storage.numel):
            raise ValueError("a storage is described in two ways")
        self._stack.append(storage)

    def _reduce(self, _: Any) -> None:
        arguments, function = self._pop(), self._pop()
        if not isinstance(function, Name) or not isinstance(arguments, tuple):
            raise ValueError("something that is no known constructor is called")
        construct = CONSTRUCTORS.get(function.text)
        if construct is None:
            raise ValueError(f"{function.text} is called")
        self._stack.append(construct(*arguments))

    def _build(self, _: Any) -> None:
        # An OrderedDict of torch carries attributes (`_metadata`); they are dropped.
        self._pop()
        if not isinstance(self._top(), dict):
            raise ValueError("attributes are set on what is no dict")


# First byte of each instruction, its name, and what reads its argument.
_INSTRUCTIONS: dict[bytes, tuple[str, Callable[[Any], Any] | None]] = {
    opcode.code.encode("latin-1"): (
        opcode.name,
        opcode.arg.reader if opcode.arg is not None else None,
    )
    for opcode in pickletools.opcodes
}

_PUSH_ARGUMENT = frozenset(
    "BININT BININT1 BININT2 LONG1 LONG4 BINFLOAT BINUNICODE SHORT_BINUNICODE "
    "BINUNICODE8 BINSTRING SHORT_BINSTRING BINBYTES SHORT_BINBYTES BINBYTES8".split()
)

_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": _Machine._nothing,
    "FRAME": _Machine._nothing,
    "MARK": _Machine._mark,
    "POP": _Machine._pop_one,
    "NONE": _Machine._none,
    "NEWTRUE": _Machine._true,
    "NEWFALSE": _Machine._false,
    "EMPTY_DICT": _Machine._dict,
    "EMPTY_LIST": _Machine._list,
    "EMPTY_TUPLE": _Machine._empty_tuple,
    "TUPLE": _Machine._tuple,
    "TUPLE1": _Machine._tuple1,
    "TUPLE2": _Machine._tuple2,
    "TUPLE3": _Machine._tuple3,
    "APPEND": _Machine._append,
    "APPENDS": _Machine._appends,
    "SETITEM": _Machine._setitem,
    "SETITEMS": _Machine._setitems,
    "BINPUT": _Machine._put,
    "LONG_BINPUT": _Machine._put,
    "MEMOIZE": _Machine._memoize,
    "BINGET": _Machine._get,
    "LONG_BINGET": _Machine._get,
    "GLOBAL": _Machine._global,
    "STACK_GLOBAL": _Machine._stack_global,
    "BINPERSID": _Machine._persistent_id,
    "REDUCE": _Machine._reduce,
    "BUILD": _Machine._build,
}
