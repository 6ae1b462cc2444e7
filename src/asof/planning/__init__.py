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
from asof.planning.description import describe
from asof.planning.difference import diff

__all__ = [
    "Change", "Create", "CreateArchive", "Delete", "DropGeneration", "FieldChange", "Finding", "KeepArchive",
    "NewFunction", "NewGeneration", "Plan", "Update", "describe", "diff", "resolve",
]  # fmt: skip
