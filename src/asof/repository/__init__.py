"""A repository's Python files: their definitions, and the functions of on-demand views and transforms."""

from asof.repository.files import collect, python_files
from asof.repository.functions import FunctionDifference, Repository

__all__ = ["FunctionDifference", "Repository", "collect", "python_files"]
