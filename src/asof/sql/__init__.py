"""Point-in-time reads as SQL: a selection's views and a spine in, the text of the steps out; nothing runs here."""

from asof.sql.query import PointInTime, Program, Step, compile_program
from asof.sql.source_rows import SpineTable, Table

__all__ = ["PointInTime", "Program", "SpineTable", "Step", "Table", "compile_program"]
