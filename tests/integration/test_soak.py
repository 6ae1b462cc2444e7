"""Long runs: a million events through workers that are killed, and long random lives. Run with `make soak`."""

import random
import time
from collections import Counter

import pytest

from asof.flows.stores import view_named
from asof.flows.stream.rebuild import rebuild
from asof.testing.clock import MicrosClock
from asof.testing.streams import DEFINITIONS, MORTALS, StreamRun, live_through
from asof.timing import MINUTE
from tests.embedded_stores import close, embedded_stores
from tests.integration.test_worker_faults import oracle, random_visits, run, start

pytestmark = [pytest.mark.integration, pytest.mark.soak]

__all__ = ["run", "start"]


def test_a_million_events_through_workers_that_are_killed(run, start):
    rng = random.Random(23)
    workers = [start(), start()]
    for turn in range(250):
        for partition in range(3):
            run.send(*random_visits(rng, 1334, users=2000), partition=partition)
        time.sleep(rng.uniform(0.05, 0.4))
        if turn % 5 == 4:
            victim = rng.randrange(2)
            workers[victim].kill()
            workers[victim].wait()
            workers[victim] = start()
        if turn % 60 == 30:
            rebuild(run.stores, view_named(run.stores.registry.load(run.stores.project), "activity"), wait_s=10)
    for worker in workers:
        worker.terminate()
        worker.wait(timeout=300)
    run.finish()

    assert len(run.sent) == 250 * 3 * 1334
    run.assert_nothing_lost_or_doubled()
    users = list(range(1, 2001))
    ever = Counter(event["user_id"] for event in run.sent.values() if event is not None and event["page"] != "a")
    assert run.served("activity", users)["ever"] == [ever[user] for user in users]
    run.assert_online_is_history(oracle(run), users=rng.sample(users, 5), later=[0, 20 * MINUTE])


@pytest.mark.parametrize("seed", range(60))
def test_a_long_random_life_ends_with_online_equal_to_history(tmp_path, seed):
    stores = embedded_stores(tmp_path, clock=MicrosClock())
    definitions = MORTALS if seed % 2 else DEFINITIONS
    life = StreamRun(stores, stores.clock, partitions=1 + seed % 3, definitions=definitions)
    live_through(life, random.Random(seed), 400)
    life.finish()

    life.assert_nothing_lost_or_doubled()
    life.assert_online_is_history(oracle(life))
    close(stores)
