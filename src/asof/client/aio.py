"""The asynchronous client: the same methods as `Client`, awaited."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import httpx

from asof.client import calls
from asof.client.calls import ClientCall
from asof.client.responses import response_of, result_of
from asof.client.retries import JobWait
from asof.client.sync import rows_of
from asof.client.transport import ClientBase
from asof.online_response import OnlineResponse
from asof.values.frame_types import Rows


class AsyncClient(ClientBase[httpx.AsyncClient]):
    """An asynchronous client of a feature server, with the parameters and results of `Client`."""

    def _opened(self, options: dict[str, Any]) -> httpx.AsyncClient:
        return httpx.AsyncClient(**options)

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
        wait = JobWait(wait_s)
        while True:
            job = await self.job(id)
            result = result_of(job)
            if result is not None:
                return result
            await asyncio.sleep(wait.pause(job))

    async def health(self) -> bool:
        """Whether the server is alive."""
        return await self._is_well("/health")

    async def ready(self) -> bool:
        """Whether it is ready for requests."""
        return await self._is_well("/ready")

    async def _is_well(self, path: str) -> bool:
        try:
            return (await self._http.get(path)).status_code == 200
        except httpx.HTTPError:
            return False

    async def _answer(self, call: ClientCall) -> httpx.Response:
        tried = 0
        while True:
            tried += 1
            try:
                response = await self._http.request(
                    call.method, call.path, content=call.body, params=call.query or None
                )
            except httpx.HTTPError as failure:
                wait = self._retries.after_failure(call, failure, tried=tried)
            else:
                after = self._retries.after_response(call, response, tried=tried)
                if after is None:
                    return response
                wait = after
            await asyncio.sleep(wait)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()
