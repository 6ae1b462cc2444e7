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
    """The root: a message, the place it is about, and the next step.

    Args:
        message: what is wrong, with the object's kind and name, what was expected and what was found.
        hint: the next step, as an imperative sentence without its full stop.
        where: `file:line` of the definition that the message is about.
        arguments: those of the called method that the message or the hint mentions.

    Attributes:
        may_pass: whether the same call may succeed later though nobody changes anything: a server that restarts, or
            that hands over to another.
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
            # Not within a longer word: `n=1` is no part of `seen=12`.
            mention = re.compile(rf"(?<![\w-]){re.escape(str(each))}(?!\w)")
            text = spelling(each).replace("\\", r"\\")
            self.message, self.hint = mention.sub(text, self.message), mention.sub(text, self.hint)
        self.arguments = ()

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        return f"{text}\n  next: {self.hint}" if self.hint else text

    def to_dict(self) -> dict[str, str]:
        """The same as JSON-ready words, for `--output json` and HTTP bodies."""
        return {"error": type(self).__name__, "message": self.message, "where": self.where, "hint": self.hint}


LONGEST_COMPARED, MOST_COMPARED = 200, 1000
"""Names that are longer, and how many of them, `nearest` does not compare: that takes time with both."""


def nearest(name: str, known: Collection[str]) -> str:
    """ "did you mean 'x'?", or an empty string where nothing known is near `name`.

    Both sides may come from a request: long names are not compared, nor is one compared with very many.
    """
    if len(name) > LONGEST_COMPARED:
        return ""
    if len(known) > MOST_COMPARED:
        known = list(islice((each for each in known if each[:3] == name[:3]), MOST_COMPARED))
    known = sorted(each for each in known if len(each) <= LONGEST_COMPARED)
    near = get_close_matches(name, known, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else ""


def some(names: Collection[str], limit: int = 8) -> str:
    """The names as a short list for a message: the first `limit`, then how many more there are."""
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
    """`feature_store.yaml` is missing, not well formed, or names what does not exist."""

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
        super().__init__(
            f"no feature {reference!r} in the registry",
            hint=nearest(reference, known)
            or ("run `asof list features` to see what there is" if known else "run `asof apply` first"),
        )


class RequestError(AsofError):
    """A request cannot be answered as it is: names collide, keys or request values are missing."""

    exit_code = 4


class FeatureNameCollision(RequestError):
    """Two requested features would have one output name."""


class EntityFrameError(RequestError):
    """The entity frame lacks a key or a time, or has values that cannot be used."""


class NotAuthenticated(AsofError):
    """A server does not know who asks: no credentials, or wrong, expired or foreign ones."""

    exit_code = 11


class NotAllowed(AsofError):
    """A server knows who asks, and they may not do this."""

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
    """A source cannot be reached, or does not hold what its definition says."""

    exit_code = 6


class CheckFailed(SourceError):
    """Checking definitions against the real sources found errors; nothing was changed."""

    def __init__(self, findings: Sequence[str]) -> None:
        lines = "".join(f"\n  - {finding}" for finding in findings)
        super().__init__(
            f"{len(findings)} {'findings stand' if len(findings) != 1 else 'finding stands'} in the way; "
            f"nothing was changed:{lines}",
            hint="mend them, then run `asof plan`",
        )
        self.findings = list(findings)


class UnsupportedByDialect(AsofError):
    """An engine has no form for what a definition asks."""

    exit_code = 3


class DerivationError(AsofError):
    """An on-demand function raised, or answered the wrong type, length or columns."""

    exit_code = 7


class FunctionTimeout(DerivationError):
    """An on-demand function took longer than the server lets it."""


class RegistryError(AsofError):
    """The registry cannot be read or written."""

    exit_code = 8


class RegistryConflict(RegistryError):
    """Another writer changed the registry since it was read; nothing was written."""


class StorageError(AsofError):
    """A store or a log cannot be read or written (disk full, damaged, locked, out of reach)."""

    exit_code = 8


class PushNotApplied(StorageError):
    """Pushed rows are kept in the log for good, but the online store did not take them yet; pushing them again would
    count them twice."""


class LogError(StorageError):
    """A log cannot be read or written, or has lost what was not yet read."""


class ServerError(AsofError):
    """A feature server cannot be reached, or failed to answer."""

    exit_code = 8


class ServerUnreachable(ServerError):
    """There is no connection to the feature server, or none that can be trusted."""


class ServerTimeout(ServerError):
    """The feature server did not answer in time; of a write it is not known whether it was done."""


class Overloaded(ServerError):
    """A server has more to do than it takes on; nothing was done, so ask again later.

    Args:
        retry_after_s: when, in seconds; None where it did not say.
    """

    def __init__(self, message: str, *, hint: str = "", where: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(message, hint=hint, where=where)
        self.retry_after_s = retry_after_s


class DeadLetterLimit(AsofError):
    """So many messages could not be used that the worker stopped, after writing them down."""

    exit_code = 9


class JobRunning(AsofError):
    """A view is being materialized by another job; nothing was begun.

    Args:
        views: those of the request that are.
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


class Interrupted(AsofError):
    """The user or the system asked a long command to stop; what was done so far stands."""

    exit_code = 130
