"""Planting a bug: a few words of a function's or constant's source are replaced, for a while, in the running package.

A place is "module:function", "module:Class.method" or "module:CONSTANT", modules named below refvit.
"""

import ast
import contextlib
import importlib
import inspect
import sys
import textwrap
from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """A bug.

    place, old, new  the one occurrence of ``old`` in the source of the place becomes ``new``
    operation        of the kit: the first one, in the order of its cases, in which the bug shows
    """

    place: str
    old: str
    new: str
    operation: str

    @property
    def name(self):
        return f"{self.place}: {' '.join(self.old.split())} -> {' '.join(self.new.split()) or 'nothing'}"


def planted(mutant):
    """The bug, as a context manager. Raises ValueError where the source has no such words, or has them twice."""
    module, found = at(mutant.place)
    if inspect.isfunction(found):
        return recompiled(found, function_of(edited(inspect.getsource(found), mutant), module))
    source = edited(assignment(module, mutant.place.partition(":")[2]), mutant)
    return replaced(mutant.place, eval(source.partition("=")[2], vars(module)))


def at(place):
    """-> module, and the function, without its decorators, or the constant"""
    name, _, path = place.partition(":")
    module = found = importlib.import_module(f"refvit.{name}")
    for part in path.split("."):
        found = getattr(found, part)
    return module, inspect.unwrap(getattr(found, "__func__", getattr(found, "fget", found)))


def edited(source, mutant):
    if source.count(mutant.old) != 1:
        raise ValueError(f"{mutant.name}: {source.count(mutant.old)} occurrences")
    return source.replace(mutant.old, mutant.new)


def assignment(module, name):
    """The source of a constant's assignment."""
    source = inspect.getsource(module)
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == name:
            return ast.get_source_segment(source, node)
    raise ValueError(f"{module.__name__} has no constant {name}")


def function_of(source, module):
    """A function's source -> the function, without its decorators, in its module's names"""
    return compiled(ast.parse(textwrap.dedent(source)), module)


def compiled(tree, module):
    """The same of a parsed function."""
    (definition,) = tree.body
    definition.decorator_list = []
    names = dict(vars(module))
    exec(compile(tree, f"mutant of {module.__file__}", "exec"), names)
    return names[definition.name]


@contextlib.contextmanager
def recompiled(function, other):
    """Run the code of another function, whoever holds this one."""
    parts = ("__code__", "__defaults__")
    kept = [getattr(function, part) for part in parts]
    try:
        for part in parts:
            setattr(function, part, getattr(other, part))
        yield
    finally:
        for part, value in zip(parts, kept):
            setattr(function, part, value)


@contextlib.contextmanager
def replaced(place, value):
    """Another object in its place, in every module of refvit that has imported it."""
    _, found = at(place)
    name = place.partition(":")[2]
    holders = [m for n, m in sys.modules.items() if n.startswith("refvit.") and vars(m).get(name) is found]
    try:
        for holder in holders:
            setattr(holder, name, value)
        yield
    finally:
        for holder in holders:
            setattr(holder, name, found)
