"""The client that waits."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime

import httpx

from asof.client import calls
from asof.client.calls import Call
from asof.client.responses import error_of, kept_but_not_applied, not_ended, response_of, result_of
from asof.client.retries import FIRST_LOOK_S, LONGEST_LOOK_S, Patience, failure_of
from asof.client.transport import Token, options_of
from asof.errors import AsofError
from asof.online_response import OnlineResponse
from asof.values.frame_types import Rows


class Client:
    """Asks a feature server: `asof serve`.

    It may be used by several threads, and keeps its connections: make one, and close it at the end.

    Args:
        url: where the server is: `https://features.example.com`.
        api_key: a key of `asof keys new`.
        token: a token of an issuer that the server accepts; or a callable that answers one, asked for each request.
        ca: the file of the authority that signed the server's certificate, where the system does not know it.
        client_cert: the files of a certificate and its key, or of both in one, for mutual TLS.
        timeout_s: how long a server may take to answer, each time.
        connect_timeout_s: how long a connection may take.
        retries: how often what is safe to repeat is sent again: reads, and pushes with a `batch_id`; everything where
            the server said that it did nothing. Never after a timeout.
        pool_size: at most so many connections.

    Raises:
        ConfigError: these cannot be meant so.
    """

    def __init__(
        self,
        url: str,
        *,
        api_key: str | None = None,
        token: Token | None = None,
        ca: str | None = None,
        client_cert: tuple[str, str] | str | None = None,
        timeout_s: float = 10.0,
        connect_timeout_s: float = 3.0,
        retries: int = 2,
        pool_size: int = 32,
    ) -> None:
        options = options_of(
            url, api_key=api_key, token=token, ca=ca, client_cert=client_cert, timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s, pool_size=pool_size,
        )  # fmt: skip
        self.url = url
        self._timeout_s = timeout_s
        self._patience = Patience(retries)
        self._http = httpx.Client(**options)

    def get_online_features(
        self,
        features: Sequence[str] | str,
        entity_rows: Rows,
        full_feature_names: bool = False,
        *,
        details: bool = True,
    ) -> OnlineResponse:
        """Each feature's value now, for each entity row: as `FeatureStore.get_online_features` answers.

        Args:
            features: references `view:feature`, or the name of a feature service or of a view.
            entity_rows: dicts, a dict of columns, or a pandas, Polars or Arrow table.
            details: ask for statuses and event times, too; without them answers are smaller.
        """
        call = calls.features_call(features, entity_rows, full_feature_names=full_feature_names, details=details)
        return response_of(self._answer(call).content)

    def push(self, push_source_name: str, df: Rows, *, batch_id: str | None = None, to: object = None) -> int:
        """Push rows: durable, and served, when this returns.

        Args:
            df: dicts, a dict of columns, or a table, with exactly the source's columns.
            batch_id: a name for these rows: a second push under it is no push, so that it is safe to repeat.
            to: accepted for Feast's sake.

        Returns:
            How many rows were pushed; 0 where this batch was there already.

        Raises:
            RowsRefused: something does not fit; nothing was written.
            PushNotApplied: the rows are kept, and will be served; do not push them again.
        """
        return rows_of(self._answer(calls.push_call(push_source_name, df, batch_id=batch_id)))

    def write_to_online_store(self, feature_view_name: str, df: Rows) -> int:
        """Write rows of a view; how many were written."""
        return rows_of(self._answer(calls.write_call(feature_view_name, df)))

    def materialize(
        self,
        start_date: datetime | str | None = None,
        end_date: datetime | str | None = None,
        feature_views: Sequence[str] | None = None,
        *,
        wait_s: float | None = None,
    ) -> list[dict[str, object]]:
        """Bring the online store up to date from batch sources, on the server; returns when that is done.

        Args:
            start_date, end_date: event times `[start, end)`; without a start, what is new since the last run.
            wait_s: how long to wait at most; the run goes on beyond that.

        Returns:
            Per view: rows written, and until when it is up to date.

        Raises:
            JobRunning: one of the views is being materialized already.
            ServerTimeout: it has not ended within `wait_s`.
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
        """Begin a materialize run; the id of its job, to ask `job` about.

        Args:
            force: also where one of the views is being materialized.
        """
        call = calls.materialize_call(start_date, end_date, feature_views, incremental=False, force=force)
        return (self._answer(call)).json()["job"]

    def job(self, id: str) -> dict[str, object]:
        """How far a materialize run is: its `state` is running, done or failed."""
        return (self._answer(calls.job_call(id))).json()

    def jobs(self) -> list[dict[str, object]]:
        """The server's materialize runs, the newest first."""
        return (self._answer(calls.job_call())).json()["jobs"]

    def _ended(self, id: str, wait_s: float | None) -> list[dict[str, object]]:
        began = time.monotonic()
        pause_s = FIRST_LOOK_S
        while True:
            job = self.job(id)
            result = result_of(job)
            if result is not None:
                return result
            if wait_s is not None and time.monotonic() - began > wait_s:
                raise not_ended(job, wait_s)
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_LOOK_S)

    def health(self) -> bool:
        """Whether the server lives."""
        return self._is_well("/health")

    def ready(self) -> bool:
        """Whether it is ready for requests."""
        return self._is_well("/ready")

    def _is_well(self, path: str) -> bool:
        try:
            return self._http.get(path).status_code == 200
        except httpx.HTTPError:
            return False

    def _answer(self, call: Call) -> httpx.Response:
        """The answer to a call, after as many tries as are safe."""
        tried = 0
        while True:
            tried += 1
            error: AsofError
            cause: Exception | None = None
            try:
                answer = self._http.request(call.method, call.path, content=call.body, params=call.query or None)
            except httpx.HTTPError as failure:
                wait = self._patience.after_failure(call, failure, tried=tried)
                error, cause = failure_of(call, failure, self.url, timeout_s=self._timeout_s), failure
            else:
                if answer.status_code < 300:
                    return answer
                error = error_of(
                    answer.status_code, answer.content, what=call.what, retry_after=answer.headers.get("retry-after")
                )
                wait = self._patience.after_answer(call, answer.status_code, error, tried=tried)
            if wait is None:
                raise error from cause
            time.sleep(wait)

    def close(self) -> None:
        """Give the connections back."""
        self._http.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self.url}>"


def rows_of(answer: httpx.Response) -> int:
    """How many rows an answered write wrote."""
    if answer.status_code == 202:
        raise kept_but_not_applied(answer.content)
    return int(answer.headers.get("asof-rows", 0))
