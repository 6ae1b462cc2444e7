"""The closed expression language of `where` and column expressions: parse, check, print per engine, evaluate in Python."""

from asof.expressions.checker import check
from asof.expressions.language import SUPPORTED, Word
from asof.expressions.parser import parse
from asof.expressions.printer import print_sql
from asof.expressions.tree import Expression, quote

__all__ = ["SUPPORTED", "Expression", "Word", "check", "parse", "print_sql", "quote"]
