"""For tests of sources on servers: every source is on the same one."""

from __future__ import annotations

from asof.opening.servers import SourceConnection


class OneServer:
    """Every source is on the same server."""

    def __init__(self, url, **options):
        self.options = {"url": url, **options}

    def of(self, source, kind):
        return SourceConnection("connections.shop", self.options)
