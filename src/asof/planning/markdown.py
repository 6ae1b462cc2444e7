"""A plan as Markdown, for a comment on a pull request."""

from __future__ import annotations

from asof.display import counted
from asof.planning.changes import Plan
from asof.planning.description import describe

MOST_CHARACTERS = 60_000
"""GitHub takes comments of up to 65,536 characters."""


def as_markdown(plan: Plan) -> str:
    """A heading that says the outcome, and the plan's text below it, cut where it is too long."""
    errors = len(plan.errors)
    if errors:
        outcome = f"{counted(errors, 'error')}, which block apply"
    elif plan.is_empty:
        outcome = "nothing to apply"
    else:
        outcome = counted(len(plan.changes), "change")
    text = "\n".join(describe(plan))
    if len(text) > MOST_CHARACTERS:
        text = text[:MOST_CHARACTERS].rpartition("\n")[0] + "\n… (cut; `asof plan` shows all)"
    # A fence longer than any in the text, which has names and messages of others.
    fence = "```"
    while fence in text:
        fence += "`"
    return f"### Asof plan of project {plan.name}: {outcome}\n\n{fence}text\n{text}\n{fence}\n"


__all__ = ["MOST_CHARACTERS", "as_markdown"]
