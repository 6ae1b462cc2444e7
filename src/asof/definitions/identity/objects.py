"""What Python keeps of functions, classes and packages, as the walk over them needs it."""

from __future__ import annotations

import enum
import importlib.util
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from types import (
    BuiltinFunctionType,
    ClassMethodDescriptorType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    MethodWrapperType,
    WrapperDescriptorType,
)

from asof.definitions.identity.source import Import

NATIVE = (
    BuiltinFunctionType, MethodDescriptorType, WrapperDescriptorType, MethodWrapperType, ClassMethodDescriptorType,
    GetSetDescriptorType, MemberDescriptorType,
)  # fmt: skip


def absolute(bound: Import, space: Mapping[str, object]) -> str:
    """The module that an import statement names, in a module with these globals."""
    package = str(space.get("__package__") or "")
    if not bound.level or not package:
        return bound.module
    return importlib.util.resolve_name("." * bound.level + bound.module, package)


def cells(function: FunctionType) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:
            pass  # not bound yet
    return found


def has_file(function: FunctionType) -> bool:
    return not function.__code__.co_filename.startswith("<")


def is_machinery(cls: type, attribute: str, value: object) -> bool:
    """Whether Python, and no line of the class, put the attribute there."""
    if attribute.startswith(("__", "_abc_")) or isinstance(value, NATIVE):
        return True
    # An enum's bookkeeping differs between versions of Python; its members are in its text, and have values.
    is_enum = issubclass(cls, enum.Enum)
    named_tuple = hasattr(cls, "_fields") and attribute in ("_fields", "_field_defaults", *cls._fields)
    return named_tuple or (is_enum and (attribute.startswith("_") or isinstance(value, enum.property | property)))


def importable(module: str, qualified: str) -> object:
    found: object = sys.modules.get(module)
    for name in qualified.split("."):
        found = getattr(found, name, None)
    return found


def installed_version(top: str) -> str:
    try:
        return version(top)
    except PackageNotFoundError:
        pass
    names = _distributions().get(top, ())
    return version(names[0]) if names else ""


_known_distributions: Mapping[str, list[str]] | None = None


def _distributions() -> Mapping[str, list[str]]:
    """Module → the installed packages that have it; looked up once, as it reads the lists of all of them."""
    global _known_distributions
    if _known_distributions is None:
        _known_distributions = packages_distributions()
    return _known_distributions


__all__ = ["NATIVE", "absolute", "cells", "has_file", "importable", "installed_version", "is_machinery"]
