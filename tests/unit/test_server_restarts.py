"""How long a supervisor waits before it starts a worker again that ended by itself."""

from __future__ import annotations

from asof.server.process.supervisor import BACK_OFF_S, STEADY_S, Restarts


def test_workers_that_end_soon_after_they_began_to_serve_are_started_ever_later_but_not_without_bound():
    restarts = Restarts()

    pauses = [restarts.pause(served_s=0.1) for _ in range(9)]

    assert pauses == [*BACK_OFF_S, 10.0, 10.0, 10.0]
    assert pauses[0] == 0
    assert restarts.in_a_row == 9


def test_after_a_worker_that_served_for_long_the_next_is_started_at_once():
    restarts = Restarts()
    for _ in range(4):
        restarts.pause(served_s=0.0)

    assert restarts.pause(served_s=STEADY_S) == 0
    assert restarts.pause(served_s=1.0) == BACK_OFF_S[1]
