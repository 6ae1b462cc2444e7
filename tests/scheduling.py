"""Which process of a test run takes which file: one works through the files that mostly wait, the others compute.

With pytest-xdist's own order, files of few tests come last. Those are the longest here: they wait for servers that are
killed and workers that are paused, and at the end of a run nothing would be left to do beside them.
"""

from __future__ import annotations

from typing import Any

from xdist.scheduler import LoadFileScheduling

MOSTLY_WAIT = (
    "tests/integration/test_stack_faults.py",
    "tests/integration/test_server_soak.py",
    "tests/integration/test_feast_client.py",
    "tests/integration/test_worker_kafka.py",
    "tests/integration/test_worker_faults.py",
    "tests/integration/test_log_kafka_faults.py",
    "tests/integration/test_interrupts.py",
    "tests/integration/test_push_kafka.py",
    "tests/integration/test_redis_streams.py",
    "tests/conformance/test_log_kafka.py",
)
"""Files that wait for most of their time, the longest first."""


class WaitingBeside(LoadFileScheduling):
    """Hands out files; the first process takes those that mostly wait, until there are no more."""

    def _assign_work_unit(self, node: Any) -> None:
        self.workqueue.move_to_end(self._next_for(node), last=False)
        super()._assign_work_unit(node)

    def _next_for(self, node: Any) -> str:
        waiting = [name for name in MOSTLY_WAIT if name in self.workqueue]
        if waiting and node is self.nodes[0]:
            return waiting[0]
        others = (name for name in self.workqueue if name not in waiting)
        return next(others, waiting[0] if waiting else "")
