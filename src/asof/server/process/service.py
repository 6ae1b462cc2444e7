"""State that all routes of a process share: the store, its readers, threads, limits."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any

from asof.definitions import FeatureView
from asof.errors import AsofError
from asof.flows.generations.markers import rows_lost
from asof.flows.stores import view_named
from asof.opening.clock import system_clock
from asof.process_log import facts, one_line
from asof.server.http.route import ActiveRequest, HttpRequest, Route
from asof.server.jobs.processes import Jobs
from asof.server.read.functions import FunctionThreads
from asof.server.read.online_reads import OnlineReads
from asof.server.security.audit import AuditLog, object_of
from asof.server.security.binding import is_loopback
from asof.server.security.callers import RequestPrincipal, Security
from asof.server.security.guard import Guard
from asof.server.settings import ServerSettings
from asof.server.telemetry.access_log import AccessLog, said_of
from asof.server.telemetry.feature_log import FeatureLog
from asof.server.telemetry.request_counts import RequestCounts, SharedCounts
from asof.server.telemetry.tracing import Tracing
from asof.server.telemetry.use_counts import FLUSH_S
from asof.store import FeatureStore, open_store_of

if TYPE_CHECKING:
    from asof.catalog.site import Site
    from asof.profiles.expectations import ExpectationResult

READ_THREADS, WRITE_THREADS, PAGE_THREADS = 8, 4, 2
SWEEP_S = 0.25
WRITE_DOWN_S = 1.0
CATCH_UP_S = 1.0
"""Pause before rows in a push log are applied again after a failure."""

log = logging.getLogger("asof.server")


class Service:
    """The server within one process.

    Args:
        security: authenticates callers; by default from `auth:` of the configuration.
        on_hopeless: called when this process should be replaced.
    """

    def __init__(
        self,
        store: FeatureStore,
        settings: ServerSettings | None = None,
        *,
        security: Security | None = None,
        folder: Path | None = None,
        on_hopeless: Callable[[], None] = lambda: None,
    ) -> None:
        self.store = store
        self.settings = settings or ServerSettings()
        self.security: Security = security or Guard(store.config.auth, project=store.project)
        self.audit = AuditLog(store.config.auth.audit_target, clock=system_clock)
        # Whoever reaches such a server may read; see `refuse_foreign_host`.
        self.is_for_this_machine = not store.config.auth.is_on and is_loopback(self.settings.host)
        self.is_draining = False
        # The reason why it could not start.
        self.failure: AsofError | None = None
        self.counts = RequestCounts()
        self.access_log = AccessLog(self.settings.access_log)
        self.feature_log = None
        if self.settings.feature_log_share:
            self.feature_log = FeatureLog(
                store, self.counts, share=self.settings.feature_log_share,
                services=self.settings.feature_log_services or (), most_rows=self.settings.feature_log_queue,
            )  # fmt: skip
        self._own_folder: TemporaryDirectory[str] | None = None
        if folder is None:
            self._own_folder = TemporaryDirectory(prefix="asof-serve-")
            folder = Path(self._own_folder.name)
        self.folder = folder
        # Requests being received or handled; the bytes of their bodies that came in several messages; and the number
        # being handled, without those that wait for their client.
        self.running: dict[ActiveRequest, Route[Service]] = {}
        self.body_bytes = 0
        self.working = 0
        self.waiting: Callable[[], int] = lambda: self.working
        self._readers = ThreadPoolExecutor(READ_THREADS, "asof-read")
        self._writers = ThreadPoolExecutor(WRITE_THREADS, "asof-write")
        self.functions = FunctionThreads(
            self.settings.function_threads, timeout_s=self.settings.function_timeout_s, on_hopeless=on_hopeless
        )
        self.tracing = Tracing() if self.settings.tracing == "otlp" else None
        self.reading = OnlineReads(
            store,
            threads=self._readers,
            functions=self.functions,
            counts=self.counts,
            tracing=self.tracing,
            most_bytes=self.settings.max_response_bytes,
        )
        # The fast path has no response object for the feature log or traces, and writes no CORS headers.
        self.takes_fast_path = self.settings.fast_path and not (
            self.feature_log or self.tracing or store.config.auth.origins
        )
        self.shared_counts = SharedCounts(self.folder, self.counts)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._catching_up: set[str] = set()
        self._registry_error: AsofError | None = None

    async def start(self) -> None:
        """Load the registry, and start to poll it for changes."""
        await self.reading.load()
        self.run_aside(self._watch_registry())
        self.run_aside(self._watch_rows())
        self.run_aside(self._read_functions())
        self.run_aside(self._sweep())
        self.run_aside(self._write_down())
        self.run_aside(self._keep_use())
        if self.feature_log is not None:
            self.run_aside(self._keep_feature_log())

    async def stop(self) -> None:
        """Archive pushed rows, and close everything."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.reading.close()
        if self.reading.applied.is_known:
            await self._flush_use()
        if self.feature_log is not None:
            await self.in_writer(self.feature_log.flush)
        if "site" in self.__dict__:
            await self.in_writer(self.site.close)
        if "_page_threads" in self.__dict__:
            self._page_threads.shutdown(wait=False, cancel_futures=True)
        self.functions.close()
        if self.tracing is not None:
            await self.in_writer(self.tracing.close)
        self._leave()
        self.security.close()
        self.audit.close()
        await asyncio.get_running_loop().run_in_executor(None, self.store.close)
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._writers.shutdown(wait=False, cancel_futures=True)
        if self._own_folder is not None:
            self._own_folder.cleanup()

    def note(
        self,
        route: Route[Service],
        request: HttpRequest | None,
        status: int,
        seconds: float,
        error: BaseException | None,
    ) -> None:
        """Count a request, and add it to the access log and trace if enabled."""
        service, rows = ("", 0) if request is None else (request.service, request.rows)
        self.counts.request(route.path, service, status, seconds, rows)
        response = request.response if request is not None else None
        if request is not None and request.use is not None and status == 200:
            request.use.served += 1
        if response is not None:
            self.counts.answered(response)
            if self.feature_log is not None:
                self.feature_log.note(service, response)
        if error is not None:
            self.counts.error(type(error).__name__)
        said = said_of(error, has_messages=self.settings.log_messages)
        if self.tracing is not None:
            self.tracing.note(status=status, service=service, rows=rows, error=error, message=said)
        if self.access_log.wants(status):
            self.access_log.note(
                time_ns() // 1000, route.method, route.path, status, seconds, rows=rows, service=service,
                caller=request.principal.name if request is not None and request.principal is not None else "",
                error=said,
            )  # fmt: skip

    def write_down(
        self,
        route: Route[Service],
        request: HttpRequest | None,
        principal: RequestPrincipal | None,
        *,
        address: str,
        status: int,
        error: BaseException | None,
    ) -> None:
        """Write a line of the audit log; also for refused requests."""
        who = principal.name if principal is not None else None
        what = object_of(request.content) if request is not None else {}
        self.audit.write(
            who=who, how=getattr(principal, "how", None), address=address, action=route.action, route=route.path,
            **what, job=request.job if request is not None else None,
            rows=request.rows if request is not None and request.rows else None, status=status,
            error=type(error).__name__ if error is not None else None,
        )  # fmt: skip

    @cached_property
    def site(self) -> Site:
        """The catalog's pages; nothing of them is loaded before the first request for one."""
        from asof.catalog.site import Site

        return Site(self.store, snapshot=lambda: self.reading.snapshot, can_sign_out=self.store.config.auth.is_on)

    @cached_property
    def _page_threads(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(PAGE_THREADS, "asof-pages")

    async def in_page(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run a function in one of the threads for pages."""
        return await asyncio.get_running_loop().run_in_executor(self._page_threads, work, *args)

    @cached_property
    def jobs(self) -> Jobs:
        """The materialize runs of the server."""
        config = self.store.config
        return Jobs(self.folder, config.path, config.env or None, config_file=config.file)

    def views_to_materialize(self, names: Sequence[str] | None) -> list[FeatureView]:
        """The named views, or all views with a batch source.

        Raises:
            NotFound, RequestError: a view is not applied, or has no batch source.
        """
        snapshot = self.reading.snapshot
        if names is None:
            return [each for each in snapshot.project.views.values() if each.online and not each.source.is_log]
        from asof.flows.batch.write_rows import refuse_unless_batch_fed

        views = [view_named(snapshot, name) for name in dict.fromkeys(names)]
        for view in views:
            refuse_unless_batch_fed(view)
        return views

    async def in_waiter(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run a function that waits long for another process, in its own thread."""
        return await asyncio.to_thread(work, *args)

    def run_aside(self, work: Any) -> None:
        """Run a background coroutine until the service stops."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def expectation_results(self) -> Sequence[ExpectationResult]:
        """The newest results of expectations; none where no view has any, or the registry cannot be read."""
        snapshot = self.reading.snapshot
        if not any(view.expectations for view in snapshot.project.views.values()):
            return ()
        from asof.flows.admin.expectations import kept_results

        try:
            return list(kept_results(open_store_of(self.store).stores, snapshot))
        except AsofError:
            return ()  # a scrape of all other metrics does not fail for it

    def state(self) -> dict[str, Any]:
        """Body of `/ready`."""
        if self.is_draining:
            return {"status": "draining"}
        if not self.reading.applied.is_known:
            return {"status": "starting"}
        status: dict[str, Any] = {"status": "ready", "version": self.reading.snapshot.version}
        if lost := self.reading.lost:
            error = rows_lost(lost)
            status |= {"status": "rows lost", "views": [view.name for view in lost]}
            status |= {"message": error.message, "hint": error.hint}
        if self._registry_error is not None:
            status["registry"] = self._registry_error.message
        opened, project = open_store_of(self.store), self.reading.snapshot.project
        warnings = [
            f"{each.title}: {text}"
            for each in opened.repository.differences(project)
            for text in (*(f"{part} differs from the applied one" for part in each.meaning), *each.packages)
        ]
        warnings += opened.histories.missing(project.sources_with_history())
        if warnings:
            status["warnings"] = warnings
        return status

    async def in_reader(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run a function in one of the threads for reads."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, work, *args)

    async def in_writer(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run a function in one of the threads for writes."""
        return await asyncio.get_running_loop().run_in_executor(self._writers, work, *args)

    def catch_up(self, source: str) -> None:
        """Retry to apply the rows of a push log that the online store did not take."""
        if source not in self._catching_up:
            self._catching_up.add(source)
            self.run_aside(self._catch_up(source))

    async def _catch_up(self, source: str) -> None:
        while True:
            await asyncio.sleep(CATCH_UP_S)
            try:
                await self.in_writer(self._take_over, source)
                break
            except AsofError as error:
                log.warning("rows pushed to %s are not applied yet: %s", source, error.message)
        self._catching_up.discard(source)

    def _take_over(self, source: str) -> None:
        open_store_of(self.store).pushers.of(source).take_over()

    async def _read_functions(self) -> None:
        """Read the functions of on-demand views ahead of the first request for them."""
        if not self.reading.snapshot.project.on_demand_views:
            return
        try:
            await self.in_writer(open_store_of(self.store).definitions)
        except AsofError as error:
            log.warning("the repository's functions cannot be read: %s", error)

    async def _watch_registry(self) -> None:
        while True:
            await asyncio.sleep(self.settings.registry_refresh_s)
            try:
                if await self.reading.refresh():
                    version = self.reading.snapshot.version
                    log.info("serves version %d of the registry", version, extra=facts("version", version=version))
                if self._registry_error is not None:
                    log.info("the registry can be read again", extra=facts("registry"))
                self._registry_error = None
            except AsofError as error:
                # Reads go on with the last snapshot.
                if self._registry_error is None:
                    log.warning("the registry cannot be read: %s", one_line(error), extra=facts("registry"))
                self._registry_error = error
            except Exception:
                log.exception("polling the registry failed")

    async def _watch_rows(self) -> None:
        """Check for rows that the online store has lost, also without reads."""
        while True:
            before = self.reading.lost
            try:
                await self.reading.look_at_rows()
            except AsofError as error:
                log.debug("the online store cannot be looked at: %s", error.message)
            except Exception:
                log.exception("looking for lost rows failed")
            if (lost := self.reading.lost) and not before:
                found = rows_lost(lost)
                log.error(one_line(found), extra=facts("rows lost", views=[view.name for view in lost]))
            await asyncio.sleep(self.settings.registry_refresh_s)

    async def _write_down(self) -> None:
        """Write the counts for the other workers, and the access log."""
        while True:
            await asyncio.sleep(WRITE_DOWN_S)
            await self.in_writer(self._leave)

    def _leave(self) -> None:
        try:
            self.access_log.write()
            self.shared_counts.leave()
        except OSError as error:
            log.warning("counts and access log cannot be written: %s", error)

    async def _keep_use(self) -> None:
        """Write how often features were served."""
        while True:
            await asyncio.sleep(FLUSH_S)
            await self._flush_use()

    async def _flush_use(self) -> None:
        try:
            await self.in_writer(self.reading.use.flush)
        except Exception:
            # A stop goes on to archive what was pushed, whatever became of the counts.
            log.exception("keeping the use of features failed")

    async def _keep_feature_log(self) -> None:
        assert self.feature_log is not None
        while True:
            await asyncio.sleep(self.settings.feature_log_flush_s)
            await self.in_writer(self.feature_log.flush)

    async def _sweep(self) -> None:
        """Cancel requests past their receive or request timeout."""
        settings = self.settings
        while True:
            await asyncio.sleep(SWEEP_S)
            now = perf_counter()
            for each, route in list(self.running.items()):
                limit = settings.receive_timeout_s if each.reads_body else settings.request_timeout_s
                if now - each.since > limit and (each.reads_body or route.waits != "job") and not each.expired:
                    each.expired = True
                    each.task.cancel()
