"""`logging:`, what `asof stream run`, `asof run` and `asof serve` write of their work."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from asof.config.sections.kinds import OptionDoc, Section


class LoggingSection(Section, frozen=True, kw_only=True):
    """The form and the level of a process's log."""

    SECTION: ClassVar[str] = "logging"

    format: Annotated[
        Literal["text", "json"], OptionDoc("How lines on stderr are written; `json` is one object per line.")
    ] = "text"
    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        OptionDoc("The least severe lines of Asof's own that are written; `--quiet` means `warning`."),
    ] = "info"
