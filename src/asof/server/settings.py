"""Settings of the server: the `server:` section of `feature_store.yaml`, overridden by the command line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from asof.config.options import options_of_section
from asof.config.reading import refuse_misfit
from asof.config.sections import ServerSection


class ServerSettings(ServerSection, frozen=True, kw_only=True):
    """The options of `server:`, each declared there."""

    def with_options(self, options: Mapping[str, Any]) -> ServerSettings:
        """A copy with some options replaced; None keeps an option."""
        known = set(self.__struct_fields__)
        return structs.replace(
            self, **{name: value for name, value in options.items() if value is not None and name in known}
        )

    def checked(self) -> ServerSettings:
        """Validate every value like the `server:` section.

        Raises:
            ConfigError: a value is invalid.
        """
        for name, option in options_of_section(ServerSection).items():
            value = getattr(self, name)
            if value is not None:
                refuse_misfit(option, value)
        return self
