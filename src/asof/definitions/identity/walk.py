"""Walks from a function to all that decides its value: other functions, classes, modules and constants.

Each becomes a *part*: a label (`function helpers.scale`, `constant RATE`) and a digest of its text or value. The walk
follows objects, as they are once all files were read, by the names that the source text uses, in the text's order; so
parts are the same in every process and under every version of Python.
"""

from __future__ import annotations

import enum
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass
from functools import cached_property, partial, partialmethod
from pathlib import Path
from types import FunctionType, MethodType, ModuleType
from typing import Any

from asof.definitions.identity.constants import Untellable, constant_text
from asof.definitions.identity.objects import (
    NATIVE,
    absolute,
    cells,
    has_file,
    importable,
    installed_version,
    is_machinery,
)
from asof.definitions.identity.origin import is_own_file, is_standard
from asof.definitions.identity.source import (
    FunctionSource,
    NoSource,
    Reference,
    class_source,
    function_source,
    module_imports,
    module_source,
)

_MISSING = object()
_OPERATORS = ("operator", "_operator")
_TYPING = ("typing", "types", "typing_extensions", "_typing")


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class Walk:
    """One walk.

    Args:
        root: the repository's folder, where it is known: files below it are the user's own.

    Attributes:
        parts: label → digest.
        packages: package → its version, of those that the functions use.
        problems: what cannot be compared between processes, as text.
        read: the globals that were read (namespace, name, value), without those that the functions set themselves.
    """

    def __init__(self, root: Path | None) -> None:
        self.parts: dict[str, str] = {}
        self.packages: dict[str, str] = {}
        self.problems: list[str] = []
        self.read: list[tuple[Mapping[str, object], str, object]] = []
        self._root = root
        self._home = ""
        self._labels: dict[int, str] = {}
        # What was walked is kept, so that no other object gets its id.
        self._walked: list[object] = []
        self._taken: set[str] = set()

    def begin(self, function: object, name: str) -> None:
        """Walk from the function of an on-demand view or a transform."""
        self._home = getattr(function, "__module__", None) or ""
        text = self._value(function, {}, name)
        if not text.startswith("function "):
            self.parts[f"function {name}"] = digest(text)

    def use(self, package: str) -> None:
        """Record a package's version, if it is one that is installed."""
        top = package.partition(".")[0]
        if top in self.packages or top == "asof" or is_standard(top):
            return
        found = installed_version(top)
        if found:
            self.packages[top] = found

    # ---- what a name stands for ----

    def _value(self, value: object, space: Mapping[str, object], name: str) -> str:
        """A value as text, equal where it is equal; functions and classes of the user become parts of their own.

        Args:
            space: the globals in which the name was looked up.
        """
        try:
            return constant_text(value, lambda inner: self._other(inner, space, name))
        except Untellable as problem:
            self.problems.append(f"{name!r}, which {problem}")
        except RecursionError:
            self.problems.append(f"{name!r}, which holds itself, or is nested too deeply")
        return "untellable"

    def _other(self, value: Any, space: Mapping[str, object], name: str) -> str:
        """The text of what is no plain constant.

        Raises:
            Untellable: it has none.
        """
        if isinstance(value, FunctionType):
            return self._function(value, name)
        if isinstance(value, ModuleType):
            return self._module(value)
        if isinstance(value, type):
            return self._class(value, name)
        if isinstance(value, enum.Enum):
            inner = self._value(value.value, space, name)
            return f"enum {self._class(type(value), name)}.{value.name} {inner}"
        if is_dataclass(value):
            shown = ", ".join(
                f"{each.name}={self._value(getattr(value, each.name, None), space, f'{name}.{each.name}')}"
                for each in fields(value)
            )
            return f"dataclass {self._class(type(value), name)}({shown})"
        if isinstance(value, tuple) and hasattr(type(value), "_fields"):
            shown = ", ".join(self._value(each, space, name) for each in value)
            return f"named tuple {self._class(type(value), name)}({shown})"
        if isinstance(value, MethodType):
            return f"method {self._value(value.__func__, space, name)} of {self._value(value.__self__, space, name)}"
        if isinstance(value, partial | partialmethod):
            held = (value.func, list(value.args), dict(value.keywords))
            return "partial " + " ".join(self._value(each, space, name) for each in held)
        if isinstance(value, staticmethod | classmethod):
            return f"{type(value).__name__} {self._value(value.__func__, space, name)}"
        if isinstance(value, cached_property):
            return f"property {self._value(value.func, space, name)}"
        if isinstance(value, property):
            return "property " + " ".join(
                self._value(each, space, name) for each in (value.fget, value.fset) if each is not None
            )
        if isinstance(value, NATIVE):
            return self._native(value, space, name)
        if hasattr(value, "content") and hasattr(value, "kind"):
            return self._definition(value, space, name)
        kind = type(value)
        if kind.__module__ in _OPERATORS:
            return f"operator {self._value(list(value.__reduce__()), space, name)}"
        if kind.__module__ in _TYPING:
            return "a type"
        if kind.__module__ == "logging":
            return "a logger"
        if kind is object:
            return "a mark"
        if path := self._imported_path(space, name.rpartition(".")[2]):
            self.use(path)
            return f"of a package: {path}"
        wrapped = getattr(value, "__wrapped__", None)
        if wrapped is not None and callable(value):
            return f"{self._class(kind, name)} of {self._value(wrapped, space, name)}"
        raise Untellable(f"is a {kind.__qualname__}")

    def _imported_path(self, space: Mapping[str, object], name: str) -> str:
        """The package's path of what import statements of the user's modules hand on; empty where none does."""
        seen: set[str] = set()
        while (file := str(space.get("__file__", ""))) not in seen:
            seen.add(file)
            bound = module_imports(file, space).get(name)
            if bound is None:
                return ""
            module = absolute(bound, space)
            if not self._is_own_module(module):
                return f"{module}.{bound.attribute}" if bound.attribute else module
            space, name = vars(sys.modules[module]) if module in sys.modules else {}, bound.attribute
        return ""

    def _native(self, value: Any, space: Mapping[str, object], name: str) -> str:
        owner = getattr(value, "__self__", None)
        if owner is not None and not isinstance(owner, ModuleType | type):
            return f"method {value.__name__} of {self._value(owner, space, name)}"
        home = getattr(value, "__module__", None) or getattr(owner, "__name__", "")
        if home:
            self.use(home)
        return f"native {home}.{value.__qualname__}"

    def _definition(self, value: Any, space: Mapping[str, object], name: str) -> str:
        function = getattr(value, "function", None)
        said = {key: each for key, each in value.content().items() if key != "identity"} if function is None else {}
        text = self._value(function, space, name) if function is not None else self._value(said, space, name)
        return f"{value.kind} {value.name} {text}"

    # ---- functions ----

    def _function(self, function: FunctionType, name: str) -> str:
        known = self._labels.get(id(function))
        if known is not None:
            return known
        code, space = function.__code__, function.__globals__
        if not is_own_file(code.co_filename, self._root):
            return self._foreign_function(function, name)
        label = self._label("function", function, function.__module__, function.__qualname__)
        try:
            source = function_source(function)
        except NoSource:
            self.problems.append(f"{name!r}, which is a function whose source text is not to be had")
            return label
        self.parts[label] = digest(source.text)
        self._defaults(function, label)
        self._reads(source, space, cells(function), function.__module__, label)
        return label

    def _foreign_function(self, function: FunctionType, name: str) -> str:
        """A package's function by its name; one that a package's decorator made, with what it was made of."""
        home, qualified = str(function.__globals__.get("__name__", "")), function.__code__.co_qualname
        self.use(home)
        if function.__closure__ is None or importable(home, qualified) is function:
            return f"of a package: {home}.{qualified}"
        self._labels[id(function)] = f"of a package: {home}.{qualified}"
        self._walked.append(function)
        registry = getattr(function, "registry", None)
        if qualified == "singledispatch.<locals>.wrapper" and isinstance(registry, Mapping):
            held: Mapping[str, object] = {"registry": dict(registry)}
        else:
            held = cells(function)
        inner = ", ".join(f"{key}={self._value(each, {}, name)}" for key, each in held.items() if each is not function)
        self._labels[id(function)] = label = f"of a package: {home}.{qualified}({inner})"
        return label

    def _defaults(self, function: FunctionType, label: str) -> None:
        code = function.__code__
        positional = function.__defaults__ or ()
        names = code.co_varnames[code.co_argcount - len(positional) : code.co_argcount]
        for name, value in [*zip(names, positional, strict=True), *(function.__kwdefaults__ or {}).items()]:
            self._bind(f"default {name} of {label}", value, function.__globals__, name)

    def _reads(
        self, source: FunctionSource, space: Mapping[str, object], cells: Mapping[str, object], module: str, label: str
    ) -> None:
        """What a text reads from outside."""
        prefix = "" if module == self._home else f"{module}."
        for reference in source.reads:
            name, *attributes = reference
            if name in source.imports:
                self._imported(reference, source, space)
                continue
            if name in cells:
                value, shown = cells[name], f"{name} of {label}"
            elif name in space:
                value, shown = space[name], prefix + name
                if name not in source.writes:
                    self.read.append((space, name, value))
            else:
                continue  # a builtin, or nothing: then the function fails by itself
            self._read(value, attributes, space, name=name, shown=shown)

    def _imported(self, reference: Reference, source: FunctionSource, space: Mapping[str, object]) -> None:
        """What the function imports itself: the user's own modules are read, packages only named."""
        name, *attributes = reference
        bound = source.imports[name]
        module = absolute(bound, space)
        if not self._is_own_module(module):
            self.use(module)
            self.parts[f"import {name}"] = digest(bound.path)
            return
        try:
            value: Any = importlib.import_module(module)
            if bound.attribute:
                inner = getattr(value, bound.attribute, _MISSING)
                value = importlib.import_module(f"{module}.{bound.attribute}") if inner is _MISSING else inner
        except Exception as error:
            self.problems.append(f"{bound.path!r}, which cannot be imported ({type(error).__name__}: {error})")
            return
        within = vars(sys.modules[module]) if module in sys.modules else space
        self._read(value, attributes, within, name=bound.attribute or name, shown=bound.path)

    def _read(
        self, value: object, attributes: list[str], space: Mapping[str, object], *, name: str, shown: str
    ) -> None:
        """Go from a module of the user's along the attributes to what is meant."""
        while attributes and isinstance(value, ModuleType) and self._is_own(value):
            attribute, attributes = attributes[0], attributes[1:]
            if attribute.startswith("__"):
                return  # of the module itself, such as where its file is
            inner = getattr(value, attribute, _MISSING)
            if inner is _MISSING:
                return
            space, value, name, shown = vars(value), inner, attribute, f"{shown}.{attribute}"
        if attributes[:1] in (["function"], ["udf"]) and hasattr(value, "kind"):
            value = getattr(value, "function", value)
        if not name.startswith("__"):
            self._bind(shown, value, space, name)

    def _bind(self, label: str, value: object, space: Mapping[str, object], name: str) -> None:
        is_code = callable(value) or isinstance(value, ModuleType)
        before = len(self.problems)
        text = self._value(value, space, name)
        if len(self.problems) > before:
            self.problems[before:] = [each.replace(repr(name), repr(label), 1) for each in self.problems[before:]]
        if label.startswith("default "):
            self.parts[label] = digest(text)
        elif text not in (f"function {label}", f"class {label}"):
            self.parts[f"{'name' if is_code else 'constant'} {label}"] = digest(text)

    # ---- modules and classes ----

    def _module(self, module: ModuleType) -> str:
        if not self._is_own(module):
            self.use(module.__name__)
            return f"of a package: {module.__name__}"
        # Used as a whole, so that anything in it may decide.
        label = f"module {module.__name__}"
        if label not in self.parts:
            try:
                self.parts[label] = digest(module_source(str(module.__file__), vars(module)).text)
            except NoSource:
                raise Untellable("is a module whose source text is not to be had") from None
            for name, value in list(vars(module).items()):
                if not name.startswith("__"):
                    self._bind(f"{module.__name__}.{name}", value, vars(module), name)
        return label

    def _class(self, cls: type, name: str) -> str:
        known = self._labels.get(id(cls))
        if known is not None:
            return known
        home = sys.modules.get(cls.__module__)
        methods = [each for each in vars(cls).values() if isinstance(each, FunctionType)]
        own = [each for each in methods if is_own_file(each.__code__.co_filename, self._root) and has_file(each)]
        space = own[0].__globals__ if own else vars(home) if home is not None else {}
        file = str(space.get("__file__") or (own[0].__code__.co_filename if own else ""))
        if not file or not is_own_file(file, self._root):
            self.use(cls.__module__)
            return f"class of a package: {cls.__module__}.{cls.__qualname__}"
        label = self._label("class", cls, cls.__module__, cls.__qualname__)
        try:
            text = class_source(cls, space, file).text
        except NoSource:
            if not hasattr(cls, "_fields"):
                raise Untellable(f"is of class {cls.__qualname__}, whose source text is not to be had") from None
            text = " ".join(cls._fields)
        self.parts[label] = digest(text)
        for base in cls.__bases__:
            if base is not object:
                self._bind(f"base {base.__name__} of {label}", base, space, base.__name__)
        for attribute, value in vars(cls).items():
            self._attribute(cls, attribute, value, space, label)
        return label

    def _attribute(self, cls: type, attribute: str, value: object, space: Mapping[str, object], label: str) -> None:
        inner = getattr(value, "__func__", getattr(value, "fget", value))
        if isinstance(inner, FunctionType):
            # A function without a file was made by a decorator or a base, out of the class's text.
            made_of = inspect.unwrap(inner)
            if has_file(made_of) and is_own_file(made_of.__code__.co_filename, self._root):
                self._function(inner, attribute)
        elif not is_machinery(cls, attribute, value):
            self._bind(f"{attribute} of {label}", value, space, attribute)

    # ---- names ----

    def _label(self, kind: str, thing: object, module: str, qualified: str) -> str:
        label = base = f"{kind} {qualified}" if module == self._home else f"{kind} {module}.{qualified}"
        count = 1
        while label in self._taken:
            count += 1
            label = f"{base}#{count}"
        self._taken.add(label)
        self._labels[id(thing)] = label
        self._walked.append(thing)
        return label

    def _is_own(self, module: ModuleType) -> bool:
        file = getattr(module, "__file__", None)
        positions: Iterable[str] = [file] if file else list(getattr(module, "__path__", ()))
        return any(is_own_file(str(each), self._root) for each in positions)

    def _is_own_module(self, name: str) -> bool:
        """Whether a module is the user's own; imports no package to find out."""
        top = name.partition(".")[0]
        if is_standard(top):
            return False
        module = sys.modules.get(top)
        if module is not None:
            return self._is_own(module)
        try:
            spec = importlib.util.find_spec(top)
        except (ImportError, ValueError):
            return False
        if spec is None:
            return False
        positions = [spec.origin] if spec.origin else list(spec.submodule_search_locations or ())
        return any(is_own_file(str(each), self._root) for each in positions)


__all__ = ["Walk", "digest"]
