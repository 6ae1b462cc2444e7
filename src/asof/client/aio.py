"""The client for event loops: the same calls as `Client`, awaited."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime

import httpx

from asof.client import calls
from asof.client.calls import Call
from asof.client.responses import error_of, not_ended, response_of, result_of
from asof.client.retries import FIRST_LOOK_S, LONGEST_LOOK_S, Patience, failure_of
from asof.client.sync import rows_of
from asof.client.transport import Token, options_of
from asof.errors import AsofError
from asof.online_response import OnlineResponse
from asof.values.frame_types import Rows


class AsyncClient:
    """Asks a feature server without holding up an event loop; parameters and answers are those of `Client`."""

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
        self._http = httpx.AsyncClient(**options)

    async def get_online_features(
        self,
        features: Sequence[str] | str,
        entity_rows: Rows,
        full_feature_names: bool = False,
        *,
        details: bool = True,
    ) -> OnlineResponse:
        """See `Client.get_online_features`."""
        call = calls.features_call(features, entity_rows, full_feature_names=full_feature_names, details=details)
        return response_of((await self._answer(call)).content)

    async def push(self, push_source_name: str, df: Rows, *, batch_id: str | None = None, to: object = None) -> int:
        """See `Client.push`."""
        return rows_of(await self._answer(calls.push_call(push_source_name, df, batch_id=batch_id)))

    async def write_to_online_store(self, feature_view_name: str, df: Rows) -> int:
        """See `Client.write_to_online_store`."""
        return rows_of(await self._answer(calls.write_call(feature_view_name, df)))

    async def materialize(
        self,
        start_date: datetime | str | None = None,
        end_date: datetime | str | None = None,
        feature_views: Sequence[str] | None = None,
        *,
        wait_s: float | None = None,
    ) -> list[dict[str, object]]:
        """See `Client.materialize`."""
        return await self._ended(await self.start_materialize(start_date, end_date, feature_views), wait_s)

    async def materialize_incremental(
        self,
        end_date: datetime | str | None = None,
        feature_views: Sequence[str] | None = None,
        *,
        wait_s: float | None = None,
    ) -> list[dict[str, object]]:
        """See `Client.materialize_incremental`."""
        call = calls.materialize_call(None, end_date, feature_views, incremental=True, force=False)
        return await self._ended((await self._answer(call)).json()["job"], wait_s)

    async def start_materialize(
        self,
        start_date: datetime | str | None = None,
        end_date: datetime | str | None = None,
        feature_views: Sequence[str] | None = None,
        *,
        force: bool = False,
    ) -> str:
        """See `Client.start_materialize`."""
        call = calls.materialize_call(start_date, end_date, feature_views, incremental=False, force=force)
        return (await self._answer(call)).json()["job"]

    async def job(self, id: str) -> dict[str, object]:
        """See `Client.job`."""
        return (await self._answer(calls.job_call(id))).json()

    async def jobs(self) -> list[dict[str, object]]:
        """See `Client.jobs`."""
        return (await self._answer(calls.job_call())).json()["jobs"]

    async def _ended(self, id: str, wait_s: float | None) -> list[dict[str, object]]:
        began = time.monotonic()
        pause_s = FIRST_LOOK_S
        while True:
            job = await self.job(id)
            result = result_of(job)
            if result is not None:
                return result
            if wait_s is not None and time.monotonic() - began > wait_s:
                raise not_ended(job, wait_s)
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_LOOK_S)

    async def health(self) -> bool:
        """Whether the server lives."""
        return await self._is_well("/health")

    async def ready(self) -> bool:
        """Whether it is ready for requests."""
        return await self._is_well("/ready")

    async def _is_well(self, path: str) -> bool:
        try:
            return (await self._http.get(path)).status_code == 200
        except httpx.HTTPError:
            return False

    async def _answer(self, call: Call) -> httpx.Response:
        tried = 0
        while True:
            tried += 1
            error: AsofError
            cause: Exception | None = None
            try:
                answer = await self._http.request(call.method, call.path, content=call.body, params=call.query or None)
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
            await asyncio.sleep(wait)

    async def aclose(self) -> None:
        """Give the connections back."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"<AsyncClient of {self.url}>"
