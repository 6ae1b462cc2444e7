"""Every error a user can meet, in one tree: what happened, where, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice

from asof.distribution import install_command


@dataclass(frozen=True)
class Argument:
    """An argument of a `FeatureStore` method, as an error's text mentions it: `limit=0`, `entity_df=`.

    Whoever catches the error may write it in the caller's own terms, as the command line does (`--limit 0`).

    Args:
        name: the parameter's.
        value: what was given, or is to be given; `None` where the name alone says enough.
    """

    name: str
    value: object = None

    def __str__(self) -> str:
        return f"{self.name}=" + ("" if self.value is None else repr(self.value))


class AsofError(Exception):
    """The base of all errors: a message, the next step, and the `file:line` it is about.

    Args:
        message: what is wrong, with the object's kind and name, what was expected and what was found.
        hint: the next step, as an imperative sentence without its full stop.
        where: `file:line` of the definition that the message is about.
        arguments: those of the called method that the message or the hint mentions.

    Attributes:
        may_pass: whether the same call may succeed later without any change, such as while a server restarts or fails
            over.
    """

    exit_code = 1
    may_pass = False

    def __init__(self, message: str, *, hint: str = "", where: str = "", arguments: Sequence[Argument] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where
        self.arguments = tuple(arguments)

    def spell_arguments(self, spelling: Callable[[Argument], str]) -> None:
        """Write the arguments that the text mentions in another way, such as options of a command."""
        for each in self.arguments:
            # Not within a longer name: `n=1` is no part of `seen=12`.
            mention = re.compile(rf"(?<![\w-]){re.escape(str(each))}(?!\w)")
            text = spelling(each).replace("\\", r"\\")
            self.message, self.hint = mention.sub(text, self.message), mention.sub(text, self.hint)
        self.arguments = ()

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  next: {self.hint}" if self.hint else text

    def to_dict(self) -> dict[str, str]:
        """The error as JSON-ready data, for `--output json` and HTTP bodies."""
        return {"error": type(self).__name__, "message": self.message, "where": self.where, "hint": self.hint}


LONGEST_COMPARED, MOST_COMPARED = 200, 1000
"""Limits of `nearest` for the length and number of names."""


def nearest(name: str, known: Collection[str]) -> str:
    """ "did you mean 'x'?", or an empty string where no known name is near.

    Both sides may come from a request, so long names and very long lists are not compared.
    """
    if len(name) > LONGEST_COMPARED:
        return ""
    if len(known) > MOST_COMPARED:
        known = list(islice((each for each in known if each[:3] == name[:3]), MOST_COMPARED))
    known = sorted(each for each in known if len(each) <= LONGEST_COMPARED)
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""


def nearest_reference(reference: str, known: Collection[str]) -> str:
    """As `nearest`, of feature references (`view:feature`): also for a feature without its view, and for a view."""
    if ":" in reference:
        return nearest(reference, known)
    same = sorted(each for each in known if each.endswith(f":{reference}") and len(each) <= LONGEST_COMPARED)
    if same:
        return f"did you mean {' or '.join(map(repr, same[:3]))}?"
    return nearest(reference, {each.partition(":")[0] for each in known}) or nearest(reference, known)


def rename(wanted: str, known: Collection[str]) -> str:
    """ "rename its column 'X' to 'x'", or an empty string where no known name is near."""
    folded = {each.lower().replace("_", ""): each for each in known if len(each) <= LONGEST_COMPARED}
    near = folded.get(wanted.lower().replace("_", "")) or next(
        iter(get_close_matches(wanted, sorted(folded.values()), n=1)), ""
    )
    return f"rename its column {near!r} to {wanted!r}" if near else ""


def some(names: Collection[str], limit: int = 8) -> str:
    """A short list of names for a message: the first `limit`, then the number of the others."""
    shown = list(names)[:limit]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(repr(name) for name in shown) + more if shown else "none"


class DefinitionError(AsofError):
    """An object in the feature repository is not well formed."""

    exit_code = 3


class ExpressionError(DefinitionError):
    """A `where` or a column expression is outside the closed language."""


class DuplicateDefinition(DefinitionError):
    """Two definitions of one kind share a name."""


class RepositoryError(AsofError):
    """The feature repository cannot be loaded: a missing or broken file."""

    exit_code = 3


class ConfigError(AsofError):
    """`feature_store.yaml` is missing, not well formed, or names something that does not exist."""

    exit_code = 3


class MissingExtra(ConfigError):
    """A product or a feature needs packages that are not installed."""

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(f"{what} needs packages that are not installed", hint=install_command(extra))


class NotFound(AsofError):
    """A name that no applied object has."""

    exit_code = 4


class UnknownFeature(NotFound):
    """A request names a feature that no applied view has."""

    def __init__(self, reference: str, known: Collection[str]) -> None:
        self.reference = reference
        view, _, feature = reference.partition(":")
        every = feature == "*" and any(each.startswith(f"{view}:") for each in known)
        super().__init__(
            f"no feature {reference!r} in the registry",
            hint=(f"write {view!r} for all features of the view" if every else "")
            or nearest_reference(reference, known)
            or ("run `asof list features` to see what there is" if known else "run `asof apply` first"),
        )


class RequestError(AsofError):
    """A request is invalid: names collide, or keys or request values are missing."""

    exit_code = 4


class FeatureNameCollision(RequestError):
    """Two requested features would have the same output name."""


class FunctionChanged(RequestError):
    """A function of the repository here is not the one that was applied: files and registry are of different times."""


class EntityFrameError(RequestError):
    """The entity frame lacks a key or a time, or has values that cannot be used."""


class NotAuthenticated(AsofError):
    """The caller is not authenticated: credentials are missing, wrong, expired or of another server."""

    exit_code = 11


class NotAllowed(AsofError):
    """The caller is authenticated, but lacks the role or permission for this."""

    exit_code = 11


class RowsRefused(AsofError):
    """A pushed batch does not fit its schema; nothing of it was written.

    Args:
        misfits: one text per offending column and row, with the reason.
    """

    exit_code = 5

    def __init__(self, message: str, misfits: Sequence[str], *, hint: str = "", where: str = "") -> None:
        lines = "".join(f"\n  - {misfit}" for misfit in misfits[:20])
        more = f"\n  - and {len(misfits) - 20} more" if len(misfits) > 20 else ""
        super().__init__(message + lines + more, hint=hint, where=where)
        self.misfits = list(misfits)


class SourceError(AsofError):
    """A source cannot be reached, or does not match its definition."""

    exit_code = 6


class CheckFailed(SourceError):
    """Checking definitions against the real sources found errors; nothing was changed."""

    def __init__(self, findings: Sequence[str]) -> None:
        lines = "".join(f"\n  - {finding}" for finding in findings)
        super().__init__(
            f"{len(findings)} finding{'s block' if len(findings) != 1 else ' blocks'} the plan; "
            f"nothing was changed:{lines}",
            hint="fix them, then run `asof plan`",
        )
        self.findings = list(findings)


class UnsupportedByDialect(AsofError):
    """An engine does not support something that a definition uses."""

    exit_code = 3


class DerivationError(AsofError):
    """An on-demand function raised, or returned the wrong type, length or columns."""

    exit_code = 7


class FunctionTimeout(DerivationError):
    """An on-demand function exceeded the server's time limit."""


class RegistryError(AsofError):
    """The registry cannot be read or written."""

    exit_code = 8


class RegistryConflict(RegistryError):
    """Another writer changed the registry since it was read; nothing was written."""


class StorageError(AsofError):
    """A store or a log cannot be read or written (disk full, damaged, locked, unreachable)."""

    exit_code = 8


class OnlineRowsLost(StorageError):
    """The online store has lost rows that were built: a read is refused, which would find zeros and nulls."""


class PushNotApplied(StorageError):
    """Pushed rows are durable in the log but not yet in the online store; pushing them again would count them twice."""


class IncompleteRow(StorageError):
    """A late event may have changed a session beyond what its online row holds, and history does not cover it yet."""

    may_pass = True


class LogError(StorageError):
    """A log cannot be read or written, or has lost events that were not read yet."""


class ServerError(AsofError):
    """A feature server cannot be reached, or failed."""

    exit_code = 8


class ServerUnreachable(ServerError):
    """The feature server cannot be connected to, or its certificate is not trusted."""


class ServerTimeout(ServerError):
    """The feature server did not respond in time; a write may or may not have been done."""


class Overloaded(ServerError):
    """A server is overloaded; nothing was done, so retry later.

    Args:
        retry_after_s: after how many seconds to retry; None if unknown.
    """

    def __init__(self, message: str, *, hint: str = "", where: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint, where=where)
        self.retry_after_s = retry_after_s


class DeadLetterLimit(AsofError):
    """The worker stopped because of too many dead letters, after storing them."""

    exit_code = 9


class JobRunning(AsofError):
    """Another job is materializing a view; nothing was started.

    Args:
        views: the requested views that are being materialized.
        job: the other job's id.
    """

    exit_code = 8

    def __init__(self, views: Sequence[str], job: str) -> None:
        super().__init__(
            f"already being materialized: {', '.join(views)}",
            hint=f"wait for job {job} (GET /jobs/{job}), or add ?force=true",
        )
        self.views = list(views)
        self.job = job


class HistoryNotLoaded(UserWarning):
    """A read of a log or push source whose batch source is not loaded into its archive; no error, but a warning."""


class Interrupted(AsofError):
    """A long command was interrupted; the work done so far is kept."""

    exit_code = 130
