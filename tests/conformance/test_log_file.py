"""The logs' suite on files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asof.log.file.log import FileLog
from asof.log.protocol import LogUser
from asof.testing.clock import MicrosClock
from asof.testing.log import LogSuite
from tests.openers import opener


class TestFileLog(LogSuite):
    """Nothing is unsupported."""

    @pytest.fixture
    def open_log(self, tmp_path: Path) -> Iterator[Callable[[], FileLog]]:
        yield from opener(
            lambda: FileLog(tmp_path / "log", clock=MicrosClock(), segment_bytes=4096, session_timeout_s=30)
        )


class TestFileLogOfAProject(LogSuite):
    """What holds for a log holds for that of a project beside another one's, which has the same topics."""

    @pytest.fixture
    def open_log(self, tmp_path: Path, topic: str) -> Iterator[Callable[[], FileLog]]:
        opened = [FileLog(tmp_path / "log", clock=MicrosClock(), project="other", user=LogUser("other", "one"))]
        opened[0].create(topic, 2)
        opened[0].send(topic, [b"another's"], durable=False)

        def open_one() -> FileLog:
            opened.append(
                FileLog(
                    tmp_path / "log",
                    clock=MicrosClock(),
                    project="shop",
                    user=LogUser("shop", "one"),
                    segment_bytes=4096,
                    session_timeout_s=30,
                )
            )
            return opened[-1]

        yield open_one
        assert opened[0].bounds(topic) in ({0: (0, 1), 1: (0, 0)}, {0: (0, 0), 1: (0, 1)})
        for log in opened:
            log.close()
