"""A small interpreter of pickle's opcodes that builds plain values only and never imports or calls what a file names.

A pickle is a program for a stack machine. Two of its operations are dangerous: naming any Python object (GLOBAL) and
calling it (REDUCE). Here a name is looked up in a table the caller gives, and only the table's functions are called.
"""

import io
import pickletools
import types
import warnings

from .errors import BadInputError

SIZE_MAX = 16_000_000  # bytes of a pickle; our choice: a thousand tensors need 200 kB
STEPS_MAX = 1_000_000  # opcodes; our choice: a thousand tensors need 30 thousand
KEY_TYPES = (str, int, float, bool, type(None))  # cheap to hash, whatever is nested elsewhere


class Inert:
    """Stands for an object whose content is dropped."""


def load(where, data, names, persistent):
    """The value that a pickle describes.

    where       file, for errors
    data        bytes
    names       dict "module name" -> function that REDUCE may call, or a value
    persistent  function: the reference to something outside of the pickle (a tuple) -> its value
    Raises BadInputError for a name outside the table, an opcode torch.save does not write, or a malformed pickle.
    """
    if len(data) > SIZE_MAX:
        raise BadInputError(where, "pickle too large", f"at most {SIZE_MAX} bytes", len(data))
    return run(Machine(where, names, persistent), data)


def run(machine, data):
    """The value that a Machine makes of a pickle's bytes. Raises BadInputError as ``load``."""
    where = machine.where
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd escapes in names, which pickletools decodes
            for step, (opcode, argument, _) in enumerate(pickletools.genops(io.BytesIO(data))):
                if step >= STEPS_MAX:
                    raise BadInputError(where, "pickle too long", f"at most {STEPS_MAX} opcodes", "more")
                if opcode.name == "STOP":
                    return machine.result()
                machine.execute(opcode.name, argument)
    except BadInputError:
        raise
    except (ValueError, TypeError, AttributeError, LookupError, OverflowError) as error:
        raise BadInputError(where, f"malformed pickle: {type(error).__name__}: {error!s:.200}") from None


class Machine:
    """The stack, the stacks below each mark, and the memo. One method an opcode."""

    def __init__(self, where, names, persistent):
        self.where, self.names, self.persistent = where, names, persistent
        self.stack, self.below, self.memo = [], [], {}

    def execute(self, name, argument):
        if name in _PUSH_ARGUMENT:
            self.stack.append(argument)
        elif name in _PUSH_CONSTANT:
            self.stack.append(_PUSH_CONSTANT[name]())
        elif name in _OPERATIONS:
            _OPERATIONS[name](self, argument)
        else:
            raise BadInputError(self.where, f"pickle opcode {name}", "those of torch.save")

    def result(self):
        """The one value that is left."""
        if self.below or len(self.stack) != 1:
            raise ValueError("more or less than one value at the end")
        return self.stack[0]

    def take(self, count):
        """Remove and return the last ``count`` values."""
        if count > len(self.stack):
            raise ValueError("stack underflow")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def take_to_mark(self):
        values, self.stack = self.stack, self.below.pop()
        return values

    def mark(self, _):
        self.below.append(self.stack)
        self.stack = []

    def memoize(self, index):
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def recall(self, index):
        self.stack.append(self.memo[index])

    def make_tuple(self, _):
        values = tuple(self.take_to_mark())
        self.stack.append(values)

    def make_short_tuple(self, count):
        self.stack.append(tuple(self.take(count)))

    def append(self, values):
        self.top(list).extend(values)

    def set_items(self, values):
        target = self.top(dict)
        if len(values) % 2:
            raise ValueError("a key without a value")
        for key, value in zip(values[::2], values[1::2]):
            if type(key) not in KEY_TYPES:
                raise TypeError(f"key of type {type(key).__name__}")
            target[key] = value

    def find(self, name):
        """GLOBAL: never an import, only the table."""
        if name not in self.names:
            raise BadInputError(
                self.where,
                f"its pickle names {'.'.join(name.split(' '))!r:.200}, which is not rebuilt here",
                "tensors and plain containers",
                "code",
                "loading it with torch where it is trusted, and saving only its tensors",
            )
        self.stack.append(self.names[name])

    def find_on_stack(self, _):
        module, name = self.take(2)
        if type(module) is not str or type(name) is not str:
            raise TypeError("a global's name must be text")
        self.find(f"{module} {name}")

    def call(self, _):
        function, arguments = self.take(2)
        if not isinstance(function, (types.FunctionType, types.MethodType)) or type(arguments) is not tuple:
            raise TypeError(f"a call of {type(function).__name__}")
        self.stack.append(function(*arguments))

    def build(self, _):
        """The attributes of an object (of an OrderedDict: torch's ``_metadata``) are dropped."""
        self.take(1)
        self.top((dict, Inert))

    def refer(self, _):
        (reference,) = self.take(1)
        self.stack.append(self.persistent(reference))

    def top(self, kind):
        """The last value, which must be of a kind."""
        if not isinstance(self.stack[-1], kind):
            raise TypeError(f"a {type(self.stack[-1]).__name__} is not a container")
        return self.stack[-1]


_PUSH_ARGUMENT = {
    "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "BINFLOAT",
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES",
}  # fmt: skip
_PUSH_CONSTANT = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
}
_OPERATIONS = {
    "PROTO": lambda machine, version: None,
    "FRAME": lambda machine, length: None,
    "MARK": Machine.mark,
    "BINPUT": Machine.memoize,
    "LONG_BINPUT": Machine.memoize,
    "MEMOIZE": Machine.memoize,
    "BINGET": Machine.recall,
    "LONG_BINGET": Machine.recall,
    "TUPLE": Machine.make_tuple,
    "TUPLE1": lambda machine, _: machine.make_short_tuple(1),
    "TUPLE2": lambda machine, _: machine.make_short_tuple(2),
    "TUPLE3": lambda machine, _: machine.make_short_tuple(3),
    "APPEND": lambda machine, _: machine.append(machine.take(1)),
    "APPENDS": lambda machine, _: machine.append(machine.take_to_mark()),
    "SETITEM": lambda machine, _: machine.set_items(machine.take(2)),
    "SETITEMS": lambda machine, _: machine.set_items(machine.take_to_mark()),
    "GLOBAL": Machine.find,
    "STACK_GLOBAL": Machine.find_on_stack,
    "REDUCE": Machine.call,
    "NEWOBJ": Machine.call,
    "BUILD": Machine.build,
    "BINPERSID": Machine.refer,
}
