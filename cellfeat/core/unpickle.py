"""A pickle is a program. This runs it on stand-ins: nothing that it names is imported or called, nor reaches numpy.

The file may build plain containers, texts, numbers, and whatever the table of names that it is given can make. Every
other name is refused. Objects are counted, so that a short file cannot keep the machine busy for long.
"""

from __future__ import annotations

import codecs
import pickle
import pickletools
import struct
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

from cellfeat.core.text import printable
from cellfeat.errors import CellfeatError, Damaged

MAX_OBJECTS = 5_000_000  # steps of a file's pickles: an image of the reference takes about a hundred
_MARK = object()
# Opcodes whose argument is the object itself.
_NUMBERS = ("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT")
_TEXTS = ("BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8")
_BYTES = ("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8")
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}


class Stream(Protocol):
    """What a pickle is read from."""

    def read(self, size: int, /) -> bytes: ...

    def readline(self) -> bytes: ...


class Name(NamedTuple):
    """The stand-in of a class or function that a pickle may name.

    Args:
        text: Its full name, for messages.
        make: What a call of it makes of the tuple of its arguments; None where it may be named but not called.
    """

    text: str
    make: Callable[[tuple], Any] | None


class StandIn:
    """An object of a pickle that is more than a plain value. Its state is given to `build`."""

    def build(self, state: Any) -> None:
        raise refused("an object gets a state that it should not have")


def refused(reason: str) -> Damaged:
    """The error for a pickle that is not what cellfeat reads."""
    return Damaged(f"not a file of arrays, or damaged ({reason})")


def check(holds: object, reason: str) -> None:
    """Refuse the pickle unless the condition holds."""
    if not holds:
        raise refused(reason)


def check_key(value: Any) -> None:
    """Refuse keys and members of sets that are not plain: to hash deeply nested tuples overflows Python's stack."""
    parts = value if type(value) is tuple else (value,)
    check(all(type(part) in (str, bytes, int, float, bool, type(None)) for part in parts), "a key is not plain")
    # Python's hashes of larger integers repeat, and a dict of equal hashes takes time by the square of its size.
    check(all(type(part) is not int or part.bit_length() <= 60 for part in parts), "a key is too large a number")


class Interpreter:
    """Runs pickles of protocols 0 to 5 from a stream, one after the other.

    Args:
        stream: Where they lie.
        names: Stand-ins by (module, name).
        persistent: What the persistent id of an object stands for (torch's storages); None: such ids are refused.
    """

    def __init__(
        self,
        stream: Stream,
        names: Mapping[tuple[str, str], Name],
        persistent: Callable[[Any], Any] | None = None,
    ) -> None:
        self._stream, self._names, self._persistent = stream, names, persistent
        self._left = MAX_OBJECTS
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """The object of the next pickle, with stand-ins in it.

        Raises:
            CellfeatError: It is damaged, or asks for something else than the table of names holds.
            MemoryError: It is too large for this process.
        """
        self._stack, self._memo = [], {}
        try:
            while self._step():
                pass
            value = self._pop()
        except (ValueError, OverflowError, EOFError, struct.error) as error:  # what reading an argument raises
            raise refused(printable(str(error))) from None
        return value

    def spend(self, count: int) -> None:
        """Count objects.

        Raises:
            CellfeatError: There are too many.
        """
        self._left -= count
        if self._left < 0:
            raise too_many()

    def _step(self) -> bool:
        """Run the next opcode; False at the end of the pickle."""
        code = self._stream.read(1)
        if code == pickle.STOP:
            return False
        if code not in _STEPS:
            raise refused(f"opcode {_name(code)}" if code else "cut short")
        self._left -= 1
        if self._left < 0:
            raise too_many()
        reader, method = _STEPS[code]
        method(self, reader(self._stream) if reader else None)
        return True

    def _pop(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise refused("its stack is empty")
        return self._stack.pop()

    def _top(self, kind: type) -> Any:
        check(self._stack and type(self._stack[-1]) is kind, f"there is no {kind.__name__} to add to")
        return self._stack[-1]

    def _to_mark(self) -> list[Any]:
        """Takes the objects down to the last mark from the stack."""
        for position in range(len(self._stack) - 1, -1, -1):
            if self._stack[position] is _MARK:
                items = self._stack[position + 1 :]
                del self._stack[position:]
                return items
        raise refused("a mark is missing")

    # Opcodes, by the names of pickletools.

    def _op_proto(self, protocol: int) -> None:
        check(protocol <= 5, f"pickle protocol {protocol}; write it with protocol 4")

    def _op_frame(self, _: int) -> None:
        """Frames only help to read ahead."""

    def _op_mark(self, _: None) -> None:
        self._stack.append(_MARK)

    def _op_pop(self, _: None) -> None:
        check(self._stack, "its stack is empty")
        self._stack.pop()

    def _op_pop_mark(self, _: None) -> None:
        self._to_mark()

    def _op_dup(self, _: None) -> None:
        value = self._pop()
        self._stack += [value, value]

    def _op_put(self, place: int) -> None:
        value = self._pop()
        self._stack.append(value)
        self._memo[place] = value

    _op_binput = _op_long_binput = _op_put

    def _op_memoize(self, _: None) -> None:
        self._op_put(len(self._memo))

    def _op_get(self, place: int) -> None:
        if place not in self._memo:
            raise refused(f"memo {place} is empty")
        self._stack.append(self._memo[place])

    _op_binget = _op_long_binget = _op_get

    def _op_tuple(self, _: None) -> None:
        self._stack.append(tuple(self._to_mark()))

    def _op_tuple1(self, _: None) -> None:
        self._stack.append((self._pop(),))

    def _op_tuple2(self, _: None) -> None:
        second, first = self._pop(), self._pop()
        self._stack.append((first, second))

    def _op_tuple3(self, _: None) -> None:
        third, second, first = self._pop(), self._pop(), self._pop()
        self._stack.append((first, second, third))

    def _op_list(self, _: None) -> None:
        self._stack.append(self._to_mark())

    def _op_append(self, _: None) -> None:
        value = self._pop()
        self._top(list).append(value)

    def _op_appends(self, _: None) -> None:
        values = self._to_mark()
        self._top(list).extend(values)

    def _op_dict(self, _: None) -> None:
        items = self._to_mark()
        self._stack.append({})
        self._set(items)

    def _op_setitem(self, _: None) -> None:
        value, key = self._pop(), self._pop()
        self._set([key, value])

    def _op_setitems(self, _: None) -> None:
        self._set(self._to_mark())

    def _set(self, items: list[Any]) -> None:
        check(len(items) % 2 == 0, "a key has no value")
        target = self._top(dict)
        for key, value in zip(items[::2], items[1::2]):
            check_key(key)
            target[key] = value

    def _op_additems(self, _: None) -> None:
        items = self._to_mark()
        target = self._top(set)
        for item in items:
            check_key(item)
            target.add(item)

    def _op_frozenset(self, _: None) -> None:
        items = self._to_mark()
        for item in items:
            check_key(item)
        self._stack.append(frozenset(items))

    def _op_global(self, names: str) -> None:
        self._stack.append(self._named(*names.split(" ", 1)))

    def _op_stack_global(self, _: None) -> None:
        name, module = self._pop(), self._pop()
        check(type(name) is str and type(module) is str, "a name is no text")
        self._stack.append(self._named(module, name))

    def _named(self, module: str, name: str = "") -> Name:
        try:
            return self._names[module, name]
        except KeyError:
            raise CellfeatError(
                f"names {printable(module)}.{printable(name)}, which a file of arrays does not need; not loaded"
            ) from None

    def _op_reduce(self, _: None) -> None:
        arguments, target = self._pop(), self._pop()
        check(type(target) is Name and type(arguments) is tuple, "a call of something that is no name")
        check(target.make is not None, f"a call of {target.text}")
        self.spend(sum(len(argument) for argument in arguments if type(argument) in (list, tuple)))
        self._stack.append(target.make(arguments))

    def _op_build(self, _: None) -> None:
        state, target = self._pop(), self._pop()
        if type(target) is not dict:  # the attributes of an OrderedDict, such as a state dict's _metadata, are left
            check(isinstance(target, StandIn), "a state for something that has none")
            target.build(state)
        self._stack.append(target)

    def _op_persid(self, text: str) -> None:
        self._load_persistent(text)

    def _op_binpersid(self, _: None) -> None:
        self._load_persistent(self._pop())

    def _load_persistent(self, value: Any) -> None:
        check(self._persistent is not None, "an object lies outside of the file")
        assert self._persistent is not None
        self._stack.append(self._persistent(value))

    def _op_next_buffer(self, _: None) -> None:
        raise CellfeatError("its arrays lie outside of the file (out-of-band buffers of protocol 5); write them inside")

    _op_readonly_buffer = _op_next_buffer


def _text_literal(line: bytes) -> str:
    """A text as Python 2 writes it in protocol 0, a byte a character."""
    text = line.rstrip(b"\n")
    check(line.endswith(b"\n") and len(text) > 1 and text[:1] == text[-1:] and text[:1] in b"'\"", "a text is cut")
    return codecs.escape_decode(text[1:-1])[0].decode("latin-1")  # type: ignore[attr-defined]


def too_many() -> CellfeatError:
    """The error for a file of more than MAX_OBJECTS."""
    return CellfeatError("holds more objects than a file of arrays does; not loaded")


def _name(code: bytes) -> str:
    names = [opcode.name for opcode in pickletools.opcodes if opcode.code.encode("latin-1") == code]
    return names[0] if names else repr(code)


def _push(interpreter: Interpreter, value: Any) -> None:
    interpreter._stack.append(value)


def _push_new(make: Callable[[], Any]) -> Callable[[Interpreter, None], None]:
    return lambda interpreter, _: interpreter._stack.append(make())


def _steps() -> dict[bytes, tuple[Callable[[Any], Any] | None, Callable[[Interpreter, Any], None]]]:
    """By opcode: how its argument is read, and what is done with it."""
    found = {}
    for opcode in pickletools.opcodes:
        reader = opcode.arg.reader if opcode.arg else None
        method = getattr(Interpreter, f"_op_{opcode.name.lower()}", None)
        if opcode.name == "STRING":
            reader, method = (lambda stream: _text_literal(stream.readline())), _push
        elif opcode.name in (*_NUMBERS, *_TEXTS, *_BYTES):
            method = _push
        elif opcode.name in _CONSTANTS:
            method = _push_new(_CONSTANTS[opcode.name])
        if method is not None:
            found[opcode.code.encode("latin-1")] = reader, method
    return found


_STEPS = _steps()
