"""What `apply` would do, and what blocks it: pure functions of definitions and of the sources' columns."""

from asof.planning.changes import (
    Change,
    Create,
    CreateArchive,
    Delete,
    DropGeneration,
    FieldChange,
    Finding,
    KeepArchive,
    NewFunction,
    NewGeneration,
    Plan,
    Update,
)
from asof.planning.checks import resolve
from asof.planning.declared import check_declared_types, users_of, with_declared_types
from asof.planning.description import describe
from asof.planning.difference import diff

__all__ = [
    "Change", "Create", "CreateArchive", "Delete", "DropGeneration", "FieldChange", "Finding", "KeepArchive",
    "NewFunction", "NewGeneration", "Plan", "Update", "check_declared_types", "describe", "diff", "resolve", "users_of",
    "with_declared_types",
]  # fmt: skip
