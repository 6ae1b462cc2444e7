"""The synchronous client."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import httpx

from asof.client import calls
from asof.client.calls import ClientCall
from asof.client.responses import kept_but_not_applied, response_of, result_of
from asof.client.retries import JobWait
from asof.client.transport import ClientBase
from asof.online_response import OnlineResponse
from asof.values.frame_types import Rows


class Client(ClientBase[httpx.Client]):
    """A client of a feature server (`asof serve`).

    Thread-safe. It keeps connections open: create one client, and close it at the end.

    Args:
        url: the server's address, such as `https://features.example.com`.
        api_key: a key of `asof keys new`.
        token: a token of an issuer that the server accepts; or a callable that returns one, called for each request.
        ca: a PEM file with the CA of the server's certificate, if the system does not trust it.
        client_cert: the files of a certificate and its key, or one file with both, for mutual TLS.
        timeout_s: time limit for each response.
        connect_timeout_s: time limit for a connection.
        retries: number of retries of requests that are safe to repeat: reads, pushes with a `batch_id`, and requests
            of which the server says that nothing was done. Never after a timeout.
        pool_size: most connections.

    Raises:
        ConfigError: an option is invalid, or options exclude each other.
    """

    def _opened(self, options: dict[str, Any]) -> httpx.Client:
        return httpx.Client(**options)

    def get_online_features(
        self,
        features: Sequence[str] | str,
        entity_rows: Rows,
        full_feature_names: bool = False,
        *,
        details: bool = True,
    ) -> OnlineResponse:
        """The current value of each feature for each entity row, like `FeatureStore.get_online_features`.

        Args:
            features: references `view:feature`, or the name of a feature service or of a view.
            entity_rows: dicts, a dict of columns, or a pandas, Polars or Arrow table.
            details: also get statuses and event times; responses are smaller without them.
        """
        call = calls.features_call(features, entity_rows, full_feature_names=full_feature_names, details=details)
        return response_of(self._answer(call).content)

    def push(self, push_source_name: str, df: Rows, *, batch_id: str | None = None, to: object = None) -> int:
        """Push rows. They are durable and served when this returns.

        Args:
            df: dicts, a dict of columns, or a table, with exactly the source's columns.
            batch_id: an ID for these rows: a second push with the same ID writes nothing, so a push is safe to repeat.
            to: accepted for compatibility with Feast.

        Returns:
            Number of rows pushed; 0 if the batch was pushed before.

        Raises:
            RowsRefused: rows do not fit the source's schema; nothing was written.
            PushNotApplied: the rows are durable and will be served; do not push them again.
        """
        return rows_of(self._answer(calls.push_call(push_source_name, df, batch_id=batch_id)))

    def write_to_online_store(self, feature_view_name: str, df: Rows) -> int:
        """Write rows of a view; returns the number of rows written."""
        return rows_of(self._answer(calls.write_call(feature_view_name, df)))

    def materialize(
        self,
        start_date: datetime | str | None = None,
        end_date: datetime | str | None = None,
        feature_views: Sequence[str] | None = None,
        *,
        wait_s: float | None = None,
    ) -> list[dict[str, object]]:
        """Materialize on the server, and wait until it is done.

        Args:
            start_date, end_date: event times `[start, end)`; without a start, what is new since the last run.
            wait_s: how long to wait; the run continues after that.

        Returns:
            Per view: rows written, and the event time up to which it is materialized.

        Raises:
            JobRunning: one of the views is already being materialized.
            ServerTimeout: the run has not ended within `wait_s`.
        """
        return self._ended(self.start_materialize(start_date, end_date, feature_views), wait_s)

    def materialize_incremental(
        self,
        end_date: datetime | str | None = None,
        feature_views: Sequence[str] | None = None,
        *,
        wait_s: float | None = None,
    ) -> list[dict[str, object]]:
        """Materialize what is new since the last run; see `materialize`."""
        call = calls.materialize_call(None, end_date, feature_views, incremental=True, force=False)
        return self._ended((self._answer(call)).json()["job"], wait_s)

    def start_materialize(
        self,
        start_date: datetime | str | None = None,
        end_date: datetime | str | None = None,
        feature_views: Sequence[str] | None = None,
        *,
        force: bool = False,
    ) -> str:
        """Start a materialize run; returns the ID of its job, for `job`.

        Args:
            force: start it even if one of the views is being materialized.
        """
        call = calls.materialize_call(start_date, end_date, feature_views, incremental=False, force=force)
        return (self._answer(call)).json()["job"]

    def job(self, id: str) -> dict[str, object]:
        """State and progress of a materialize run; `state` is running, done or failed."""
        return (self._answer(calls.job_call(id))).json()

    def jobs(self) -> list[dict[str, object]]:
        """The server's materialize runs, newest first."""
        return (self._answer(calls.job_call())).json()["jobs"]

    def _ended(self, id: str, wait_s: float | None) -> list[dict[str, object]]:
        wait = JobWait(wait_s)
        while True:
            job = self.job(id)
            result = result_of(job)
            if result is not None:
                return result
            time.sleep(wait.pause(job))

    def health(self) -> bool:
        """Whether the server is alive."""
        return self._is_well("/health")

    def ready(self) -> bool:
        """Whether it is ready for requests."""
        return self._is_well("/ready")

    def _is_well(self, path: str) -> bool:
        try:
            return self._http.get(path).status_code == 200
        except httpx.HTTPError:
            return False

    def _answer(self, call: ClientCall) -> httpx.Response:
        """The response to a call, with retries if they are safe."""
        tried = 0
        while True:
            tried += 1
            try:
                response = self._http.request(call.method, call.path, content=call.body, params=call.query or None)
            except httpx.HTTPError as failure:
                wait = self._retries.after_failure(call, failure, tried=tried)
            else:
                after = self._retries.after_response(call, response, tried=tried)
                if after is None:
                    return response
                wait = after
            time.sleep(wait)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def rows_of(answer: httpx.Response) -> int:
    """Number of rows written, from the response to a write."""
    if answer.status_code == 202:
        raise kept_but_not_applied(answer.content)
    return int(answer.headers.get("asof-rows", 0))
