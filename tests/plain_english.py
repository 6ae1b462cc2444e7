"""The word list of HOUSE rule 7: what neither pages nor the package's own text say, and what they say instead."""

from __future__ import annotations

import re

PLAIN = {
    r"\banswer(?:s|ed|ing)?\b": "return, respond; result, response",
    r"\banew\b": "again",
    r"\bmend(?:s|ed|ing)?\b": "fix",
    r"(?<!dead )(?<!dead-)(?<!upper-case )(?<!lower-case )\bletters?\b(?!,| \d| or digit)": "dead letter",
    r"\bnobody\b": "no caller, no process",
    r"\bfor good\b": "permanently",
    r"\bst(?:ands?|anding|ood) in the way\b": "block",
    r"\btold\b": "say what happens",
    r"\bbeside\b": "next to, with, in addition to",
    r"(?<!key)(?<!reserved )\bwords?\b(?! boundar)": "name, text, keyword, message",
    r"(?<!decimal )\bplaces\b": "positions, locations, decimals",
    r"\bin parts\b|\b(?:the|its|their|these|those|all|own|opened|real|fresh|embedded) parts\b(?! of)": "stores, fields, pieces",
    r"\b(?:the|its|their|these|his) orders\b": "configuration, instructions",
}
"""Pattern → what to write. Data of examples (a table `orders`) is not meant, nor code: names, backticks, one-token strings."""

_CODE = re.compile(r"^ +\w+(?:, \w+)*: |`[^`\n]*`|'[^'\s]*'", re.MULTILINE)


def findings(prose: str, *, allowed: str | None = None) -> list[str]:
    """What of a text is not in plain English, with its surroundings and what to write; `allowed` matches a fine term."""
    prose = re.sub(rf"\b{allowed}\b", "", _CODE.sub("", prose)) if allowed else _CODE.sub("", prose)
    return [
        f"{' '.join(prose[max(0, each.start() - 30) : each.end() + 30].split())!r}: write {better}"
        for pattern, better in PLAIN.items()
        for each in re.finditer(pattern, prose, re.IGNORECASE)
    ]
