"""The closed expression language of `where` and column expressions: parse, check, print per engine, evaluate in Python.

One meaning on every engine; no expression raises at run time. Where engines differ, the rule is:

- Integer arithmetic is Int64, whatever the operands; outside Int64 is NULL. `%` takes integers only, its sign is the
  dividend's; `/` is always Float64; by zero both are NULL. `round` and `floor` leave integers as they are.
- Float arithmetic is Float64 by IEEE 754: it overflows to infinity, NaN equals itself and is the greatest, -0.0 equals
  0.0. Float32 is widened first, so `short = 0.1` is false for a Float32 column. `round` takes halves away from zero.
- Decimals are exact: `+ - *` give 38 digits, beyond that NULL; `*` adds up the scales. `round` and `floor` give a
  Decimal without decimals. A number literal next to a Decimal is the Decimal as written (`price > 9.99`); next to a
  float column the Decimal becomes Float64. Decimals without a common type of 38 digits are refused.
- An integer next to a float becomes Float64 first, so integers above 2**53 may lose their last digits.
- CAST is NULL where the value does not fit: 3.5 or NaN to an integer, 2 to Bool, 1e39 to Float32. Only CAST to a Float,
  and to a Decimal with fewer decimals, rounds (to the nearest; decimals with halves away from zero; floats become a
  Decimal by their shortest text). Text is parsed by one small grammar without spaces (`language.INTEGER_TEXT` and so
  on); `inf` and `nan` are not in it. A Timestamp is written as 2026-01-31T12:00:00.000000Z. Float to String is refused.
- Strings compare by code point, are counted in code points, and only A-Z and a-z change case. `substr` counts from 1 as
  SQL does: positions before the first code point are skipped; a negative count is 0. LIKE has no escape character.
- A Date next to a Timestamp is its midnight, UTC. Json, Array and Embedding support only IS NULL and IS NOT NULL.
"""

from asof.expressions.checker import check
from asof.expressions.language import SUPPORTED, ReferenceEntry
from asof.expressions.parser import parse
from asof.expressions.printer import print_sql
from asof.expressions.tree import Expression

__all__ = ["SUPPORTED", "Expression", "ReferenceEntry", "check", "parse", "print_sql"]
