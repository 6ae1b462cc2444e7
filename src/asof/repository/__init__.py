"""A repository's Python files: their definitions, and the functions of on-demand views and transforms."""

from asof.repository.files import collect, python_files
from asof.repository.functions import FunctionMismatch, Repository

__all__ = ["FunctionMismatch", "Repository", "collect", "python_files"]
