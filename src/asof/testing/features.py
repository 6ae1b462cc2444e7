"""Try definitions on a handful of events: what training and what serving say at any moment, by the real stores."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from asof.config import load_config
from asof.definitions import LogSource, project_of
from asof.definitions.base import Definition
from asof.errors import RequestError
from asof.store import FeatureStore, open_store_of
from asof.testing.clock import HandClock
from asof.timing import UNITS, micros, moment


class FeatureScript:
    """Plays events to feature views, and returns their features as of chosen times.

    Each value is read twice, from history and from the online store, and both must agree: a test of a feature is a
    test of training and of serving. Times only go forward.

        with FeatureScript(user_traffic, start="2026-01-01T10:00") as script:
            script.event("traffic", at="2026-01-01T10:01", user_id=7, page="home")
            assert script.features("user_traffic", at="2026-01-01T10:30", user_id=7) == {"views_1h": 1}

    Args:
        objects: feature views, on-demand views and services; what they name comes along.
        start: where the clock stands at first.
    """

    def __init__(self, *objects: Definition, start: datetime | str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="asof-script-")
        Path(self._folder.name, "feature_store.yaml").write_text("project: script\n")
        self.clock = HandClock(start)
        self.store = FeatureStore(config=load_config(self._folder.name, environ={}), clock=self.clock)
        # What is on a cluster in life is in this folder in the script.
        object.__setattr__(
            open_store_of(self.store).stores, "log_of", lambda source: open_store_of(self.store).stores.log
        )
        for source in project_of(objects).sources.values():
            if isinstance(source, LogSource):
                open_store_of(self.store).stores.log.create(source.topic)
        self.store.apply(list(objects))

    def event(self, source: str, *, at: datetime | str, **columns: object) -> None:
        """One event of a log or push source.

        Args:
            at: its event time; the source's time column need not be given. The clock moves there, if it is earlier.
        """
        found = self.store.get_source(source)
        if not isinstance(found, LogSource):
            raise RequestError(f"source {source!r} is not a log", hint="write its rows to its file before the script")
        self.clock.set(max(self.clock(), moment(micros(at))))
        row = {found.timestamp_field: _time(found, micros(at)), **columns}
        if found.type == "push":
            self.store.push(source, [{field.name: row.get(field.name) for field in found.schema} | row])
            return
        open_store_of(self.store).stores.log.send(found.topic, [json.dumps(row).encode()], durable=False)

    def features(
        self, features: str | Sequence[str], *, at: datetime | str | None = None, **keys_and_values: object
    ) -> dict[str, object]:
        """The features of one key, as of a moment (the clock's, where none is given).

        Args:
            features: a service or view by name, or references `view:feature`.
            keys_and_values: the join keys, and the request's values.

        Raises:
            AssertionError: training and serving disagree, which is a defect of Asof.
        """
        if at is not None:
            self.clock.set(at)
        if any(source.type in ("log", "kafka") for source in self.store.list_sources()):
            self.store.stream_run(until_caught_up=True)
        if any(not view.source.is_log and view.online for view in self.store.list_feature_views()):
            self.store.materialize()
        wanted = [features] if isinstance(features, str) and ":" in features else features
        response = self.store.get_online_features(wanted, [keys_and_values])
        served = {name: values[0] for name, values in response.to_dict().items() if name not in keys_and_values}
        frame: dict[str, list[object]] = {"event_timestamp": [self.clock()]}
        frame |= {name: [value] for name, value in keys_and_values.items()}
        table = self.store.get_historical_features(frame, wanted).to_arrow()
        trained = {name: table[name][0].as_py() for name in served}
        assert served == trained, f"serving says {served}, training says {trained}, as of {self.clock()}"
        return served

    def close(self) -> None:
        self.store.close()
        self._folder.cleanup()

    def __enter__(self) -> FeatureScript:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _time(source: LogSource, us: int) -> int | str:
    dtype = next(field.dtype for field in source.schema if field.name == source.timestamp_field)
    if not dtype.is_integer:
        return moment(us).isoformat()
    multiplier, divisor = UNITS[source.timestamp_unit]
    return us * divisor // multiplier
