"""Measures candidates for the same work and says how each compares with a baseline."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Program:
    """A command line whose process measures its own work with `report`: for work in an environment of its own.

    Args:
        environ: variables to set beside those of this process.
    """

    command: tuple[str, ...]
    environ: tuple[tuple[str, str], ...] = ()


Candidate = Callable[[], Any] | Sequence[str] | Program
"""Work to measure: a function without arguments (module-level, or a `functools.partial` of one), a command line that is
timed as a whole, or a program that says itself how long its work took.

What a function answers is its check: the answers of all candidates must be equal where they are not None, so that
nobody is fast by doing something else. Answer a row count or a checksum, and never the data itself.
"""


@dataclass(frozen=True)
class Measure:
    """One run of one candidate.

    Args:
        wall_s: elapsed seconds of the work alone, without starting its process.
        cpu_s: user and system seconds of the work, over all its threads and child processes, and of its servers.
        peak_mb: the greatest resident size of the process that did the work, in MiB, with its interpreter and imports.
        base_mb: that size before the work began.
        check: what the work answered.
    """

    wall_s: float
    cpu_s: float
    peak_mb: float
    base_mb: float
    check: Any = None
    server_cpu_s: float = 0.0
    """The servers' part of `cpu_s`."""


@dataclass(frozen=True)
class Summary:
    """The medians over all runs of one candidate, and their ratios to the baseline's (None for want of a baseline)."""

    candidate: str
    runs: int
    wall_s: float
    wall_min_s: float
    wall_max_s: float
    cpu_s: float
    peak_mb: float
    base_mb: float
    wall_ratio: float | None = None
    cpu_ratio: float | None = None
    peak_ratio: float | None = None
    per_wall_s: float | None = None
    per_cpu_s: float | None = None
    server_cpu_s: float = 0.0
    check: Any = field(default=None, compare=False)


def compare(
    name: str,
    candidates: dict[str, Candidate],
    *,
    baseline: str | None = None,
    runs: int = 5,
    interleaved: bool = True,
    fresh: bool = True,
    calls: int = 1,
    items: int = 0,
    unit: str = "rows",
    note: str = "",
    servers: Sequence[int] = (),
) -> dict[str, Summary]:
    """Measure every candidate `runs` times, print a table, and append it to `results/<date>.jsonl`.

    Args:
        name: what is measured, like `historical/ttl-1d`.
        candidates: name → work.
        baseline: the candidate whose medians the ratios are against; the first one by default.
        interleaved: run a, b, a, b, … so that a change of the machine's load meets all alike; else a, a, b, b.
        fresh: each run in a process of its own, so that peak memory is the candidate's and caches are cold;
            False for micro benchmarks, which are warmed by one call that is not counted.
        calls: how often the work is called within one run; times are then per call.
        items: how many units the work handles, for rates; 0 for none.
        unit: their name.
        note: what a reader of the results should know, like the sizes.
        servers: pids of private servers that work for the candidates; what their process trees use counts as CPU.

    Raises:
        ValueError: `baseline` is no candidate, or two runs answered differently.
        RuntimeError: a candidate failed.
    """
    baseline = next(iter(candidates)) if baseline is None else baseline
    if baseline not in candidates:
        raise ValueError(f"baseline {baseline!r} is none of {list(candidates)}")
    order = (
        [key for _ in range(runs) for key in candidates]
        if interleaved
        else [k for k in candidates for _ in range(runs)]
    )
    if not fresh:
        for work in candidates.values():
            _run_once(work, fresh=False, calls=1)

    measures: dict[str, list[Measure]] = {key: [] for key in candidates}
    for key in order:
        before = _servers_cpu_s(servers)
        measure = _run_once(candidates[key], fresh=fresh, calls=calls)
        served_s = (_servers_cpu_s(servers) - before) / calls
        measures[key].append(replace(measure, cpu_s=measure.cpu_s + served_s, server_cpu_s=served_s))

    _refuse_different_answers(name, measures)
    base = _summarize(baseline, measures[baseline])
    summaries = {key: _summarize(key, of, base=base, items=items) for key, of in measures.items()}
    _print_table(name, list(summaries.values()), baseline=baseline, unit=unit if items else "", note=note)
    _append(name, summaries, baseline=baseline, items=items, unit=unit, note=note, fresh=fresh, calls=calls)
    return summaries


def report(work: Callable[[], Any], *, calls: int = 1) -> None:
    """Measure `work` in this process, for a `Program`: print what `compare` reads, as the last line of output."""
    print("\n" + json.dumps(asdict(_measure(work, calls))), flush=True)


def judge(what: str, value: float, limit: float, *, unit: str = "", at_least: bool = False) -> bool:
    """Print whether a figure keeps its limit, and answer it; a limit is an upper one unless `at_least`."""
    kept = value >= limit if at_least else value <= limit
    sign = "≥" if at_least else "≤"
    print(f"  {'kept  ' if kept else 'MISSED'}  {what}: {_short(value)}{unit} (limit {sign} {_short(limit)}{unit})")
    return kept


def _run_once(work: Candidate, *, fresh: bool, calls: int) -> Measure:
    if isinstance(work, Program):
        return _measure_program(work)
    if not callable(work):
        return _measure_command(work, calls)
    return _measure_in_fresh_process(work, calls) if fresh else _measure(work, calls)


def _measure(work: Callable[[], Any], calls: int) -> Measure:
    base_mb = _peak_mb()
    cpu, start = _cpu_s(), time.perf_counter()
    for _ in range(calls):
        check = work()
    wall_s, cpu_s = time.perf_counter() - start, _cpu_s() - cpu
    return Measure(wall_s / calls, cpu_s / calls, _peak_mb(), base_mb, check)


def _measure_in_fresh_process(work: Callable[[], Any], calls: int) -> Measure:
    # `spawn` and not `fork`: a forked child starts with its parent's memory, imports and threads.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_answer, args=(work, calls, sender))
    process.start()
    sender.close()
    try:
        answer = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(
            f"the process of {work!r} ended with code {process.exitcode} and without an answer"
        ) from None
    process.join()
    if isinstance(answer, str):
        raise RuntimeError(f"{work!r} failed: {answer}")
    return answer


def _answer(work: Callable[[], Any], calls: int, sender: Any) -> None:
    try:
        sender.send(_measure(work, calls))
    except BaseException as error:
        sender.send(f"{type(error).__name__}: {error}")
        raise


def _measure_command(command: Sequence[str], calls: int) -> Measure:
    """One process per call; its peak cannot be told where it is below this process's own (Linux keeps it over exec)."""
    cpu_s = peak_mb = 0.0
    start = time.perf_counter()
    for _ in range(calls):
        with tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
            _, status, usage = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                errors.seek(0)
                tail = errors.read().strip()[-500:]
                raise RuntimeError(f"{' '.join(command)} ended with code {process.returncode}: {tail}")
        cpu_s += usage.ru_utime + usage.ru_stime
        peak_mb = max(peak_mb, usage.ru_maxrss / 1024)
    return Measure((time.perf_counter() - start) / calls, cpu_s / calls, peak_mb, 0.0)


def _measure_program(program: Program) -> Measure:
    done = subprocess.run(
        program.command, env=os.environ | dict(program.environ), capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(
            f"{' '.join(program.command)} ended with code {done.returncode}: {done.stderr.strip()[-2000:]}"
        )
    return Measure(**json.loads(done.stdout.splitlines()[-1]))


def _cpu_s() -> float:
    usages = (resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _servers_cpu_s(servers: Sequence[int]) -> float:
    """What these processes and their descendants have used, those that have ended included."""
    if not servers:
        return 0.0
    # A process that ends while its parent has been read already is missed; so soon after one does not end again.
    first = _ticks(servers)
    time.sleep(0.3)
    return max(first, _ticks(servers)) / os.sysconf("SC_CLK_TCK")


def _ticks(servers: Sequence[int]) -> int:
    found: dict[int, tuple[int, int]] = {}
    for entry in os.listdir("/proc"):
        try:
            fields = Path(f"/proc/{entry}/stat").read_text().rpartition(")")[2].split() if entry.isdigit() else None
        except OSError:
            continue
        if fields:
            # The parent; user and system ticks of its own, and of its ended children.
            found[int(entry)] = (int(fields[1]), sum(map(int, fields[11:15])))

    def is_theirs(pid: int) -> bool:
        while pid in found and pid not in servers:
            pid = found[pid][0]
        return pid in servers

    return sum(ticks for pid, (_, ticks) in found.items() if is_theirs(pid))


def _peak_mb() -> float:
    """The peak resident size of this process.

    Linux keeps `ru_maxrss` over exec, so a spawned child would begin with its parent's peak; `VmHWM` begins anew.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024 * 1024 if sys.platform == "darwin" else 1024)


def _refuse_different_answers(name: str, measures: dict[str, list[Measure]]) -> None:
    answers = [(key, measure.check) for key, of in measures.items() for measure in of if measure.check is not None]
    if any(answer != answers[0][1] for _, answer in answers):
        raise ValueError(f"{name}: runs answered differently, so their times say nothing: {answers}")


def _summarize(key: str, measures: list[Measure], *, base: Summary | None = None, items: int = 0) -> Summary:
    wall_s, cpu_s, peak_mb, base_mb, server_cpu_s = (
        statistics.median(getattr(measure, figure) for measure in measures)
        for figure in ("wall_s", "cpu_s", "peak_mb", "base_mb", "server_cpu_s")
    )
    return Summary(
        candidate=key,
        runs=len(measures),
        wall_s=wall_s,
        wall_min_s=min(measure.wall_s for measure in measures),
        wall_max_s=max(measure.wall_s for measure in measures),
        cpu_s=cpu_s,
        peak_mb=peak_mb,
        base_mb=base_mb,
        wall_ratio=_ratio(wall_s, base.wall_s) if base else None,
        cpu_ratio=_ratio(cpu_s, base.cpu_s) if base else None,
        peak_ratio=_ratio(peak_mb, base.peak_mb) if base else None,
        per_wall_s=_ratio(items, wall_s) if items else None,
        per_cpu_s=_ratio(items, cpu_s) if items else None,
        server_cpu_s=server_cpu_s,
        check=measures[-1].check,
    )


def _ratio(value: float, base: float) -> float | None:
    return value / base if base else None


def _print_table(name: str, summaries: list[Summary], *, baseline: str, unit: str, note: str) -> None:
    header = ["", "wall", "(min – max)", "CPU", "peak", "wall ×", "CPU ×", "peak ×"]
    header += [f"{unit}/s", f"{unit}/CPU s"] if unit else []
    served = any(one.server_cpu_s for one in summaries)
    header += ["servers' CPU"] if served else []
    rows = [header]
    for one in summaries:
        row = [
            one.candidate + (" (baseline)" if one.candidate == baseline else ""),
            _time(one.wall_s),
            f"({_time(one.wall_min_s)} – {_time(one.wall_max_s)})",
            _time(one.cpu_s),
            f"{one.peak_mb:,.0f} MiB",
        ]
        row += [
            f"{ratio:.2f}" if ratio is not None else "–" for ratio in (one.wall_ratio, one.cpu_ratio, one.peak_ratio)
        ]
        row += [f"{rate:,.0f}" if rate else "–" for rate in (one.per_wall_s, one.per_cpu_s)] if unit else []
        row += [_time(one.server_cpu_s)] if served else []
        rows.append(row)
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    print(f"\n{name}: median of {summaries[0].runs}" + (f"; {note}" if note else ""))
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        print("  " + "  ".join(cells).rstrip())
    sys.stdout.flush()


def _time(seconds: float) -> str:
    if seconds >= 1:
        return f"{seconds:.2f} s"
    return f"{seconds * 1e3:.1f} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.1f} µs"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _append(name: str, summaries: dict[str, Summary], **context: Any) -> None:
    now = datetime.now(UTC)
    line = {"name": name, "at": now.isoformat(timespec="seconds"), **context, "machine": _machine()}
    line["candidates"] = {key: asdict(summary) for key, summary in summaries.items()}
    RESULTS.mkdir(exist_ok=True)
    with (RESULTS / f"{now:%Y-%m-%d}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, default=str) + "\n")


def _machine() -> dict[str, Any]:
    """What the figures depend on beside the code: cores, load when they were taken, and versions."""
    versions = {}
    for package in ("duckdb", "pyarrow", "deltalake", "numpy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": versions,
    }
