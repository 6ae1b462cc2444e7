"""The executors of a session: whether they can run Asof's own functions, and running them over their rows.

They get the package with the session where the server takes files; elsewhere it must be installed there. What a
function refuses (an `AsofError`) comes back as a row, not as a failed task: Spark would run that again in vain, and
would say it with the traceback of a worker.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import tempfile
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pyarrow as pa
from pyspark import cloudpickle
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StringType

import asof.errors
from asof.connections.spark import ServerSession
from asof.connections.spark.client import DataFrame, functions
from asof.connections.spark.errors import DRIVER_ERRORS
from asof.distribution import NOT_INSTALLED, install_command, installed_version
from asof.errors import AsofError, StorageError
from asof.offline.protocol import BatchFunction
from asof.offline.spark.package import write_archive
from asof.offline.spark.workers import ERROR, reported

NEEDED = ("pyarrow", "numpy", "msgspec", "yaml")
"""Modules that the functions need of other packages, whatever they do."""


class Trial:
    """The result of trying a server's executors.

    Args:
        refusal: why they cannot run functions.
        sorts: rows sorted within parts come sorted to a function: not every engine heeds that.
        takes_files: the server gives them the files of a session.
    """

    def __init__(self, refusal: StorageError | None = None, *, sorts: bool = False, takes_files: bool = False) -> None:
        self.refusal, self.sorts, self.takes_files = refusal, sorts, takes_files


class Executors:
    """The executors of a server, tried once; thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tried: Trial | None = None
        self._sent: weakref.WeakSet[ServerSession] = weakref.WeakSet()
        self._versions: dict[str, str] = {}

    def trial(self, session: ServerSession) -> Trial:
        """Try them, unless that was done; the session has the package then, if the server takes files."""
        with self._lock:
            if self._tried is None:
                self._tried = _tried(session)
            elif self._tried.takes_files and session not in self._sent:
                _send(session)
            self._sent.add(session)
            return self._tried

    def differences(self, session: ServerSession, packages: Mapping[str, str]) -> list[StorageError]:
        """Where the executors' versions of packages are not those of this process; empty if they run no functions.

        Args:
            packages: by the names of their modules → version here.
        """
        if not packages or self.trial(session).refusal is not None:
            return []
        with self._lock:
            unknown = sorted(packages.keys() - self._versions.keys())
            if unknown:
                self._versions |= versions_there(session, unknown)
            return [
                package_differs(name, self._versions[name], version)
                for name, version in sorted(packages.items())
                if self._versions[name] != version
            ]

    def rows(
        self, session: ServerSession, frame: DataFrame, function: BatchFunction, schema: pa.Schema, *,
        given: pa.Schema, order: tuple[str, ...] = (),
    ) -> DataFrame:  # fmt: skip
        """The rows that a function makes, and `ERROR`; nothing runs yet. See `mapped`.

        Args:
            order: columns by which a part's rows are sorted in the executor's memory.
        """
        self._trial(session)
        made = pa.schema([*schema, pa.field(ERROR, pa.string())])
        return frame.mapInArrow(_reported(function, made, given, order), from_arrow_schema(made))

    def _trial(self, session: ServerSession) -> Trial:
        trial = self.trial(session)
        if trial.refusal is not None:
            raise trial.refusal
        return trial

    def mapped(
        self, session: ServerSession, frame: DataFrame, function: BatchFunction, schema: pa.Schema, *,
        given: pa.Schema, keys: Sequence[str] = (), order: Sequence[str] = (),
    ) -> Iterator[pa.RecordBatch]:  # fmt: skip
        """The rows that a function makes of the frame's, part by part, in batches as they come.

        Args:
            schema: of the function's rows.
            given: the frame's columns in Asof's types, which the function has them in.
            keys: all rows with equal values in these columns are in one part.
            order: columns by which each part's rows come sorted.

        Raises:
            AsofError: they cannot run functions, or what the function refused.
        """
        sorts = self._trial(session).sorts
        if keys:
            frame = frame.repartition(*(functions.col(_quoted(key)) for key in keys))
        if order and sorts:
            frame = frame.sortWithinPartitions(*(functions.col(_quoted(each)) for each in order))
        made = self.rows(session, frame, function, schema, given=given, order=() if sorts else tuple(order))
        try:
            for batch in session.stream(made):
                _raise_first(batch.column(ERROR))
                yield pa.RecordBatch.from_arrays(
                    [column.cast(field.type) for column, field in zip(batch.columns, schema)], schema=schema
                )
        except DRIVER_ERRORS as error:
            if (known := failure_of(error)) is not None:
                raise known from error
            raise


def raise_refusal(text: str) -> NoReturn:
    """Raise what a function refused.

    Args:
        text: what `ERROR` holds.
    """
    said = json.loads(text)
    kind: Any = getattr(asof.errors, said["error"], None)
    is_plain = isinstance(kind, type) and issubclass(kind, AsofError) and kind.__init__ is AsofError.__init__
    made: AsofError = (kind if is_plain else StorageError)(said["message"], hint=said["hint"], where=said["where"])
    made.may_pass = bool(said["may_pass"])
    raise made


def failure_of(error: BaseException) -> StorageError | None:
    """The error of a function that ended otherwise than by an `AsofError`; None where it was not the function."""
    text = str(error)
    if mismatch := _VERSIONS.search(text):
        return python_differs(mismatch["worker"], mismatch["driver"])
    if missing := _NO_MODULE.search(text):
        return module_missing(missing["name"])
    if "Traceback (most recent call last)" in text:
        return StorageError(
            f"a function failed on an executor: {_last_line(text)}", hint="see the executors' log for its traceback"
        )
    return None


_VERSIONS = re.compile(r"different version.*?(?P<worker>\d+\.\d+).*?(?P<driver>\d+\.\d+)", re.DOTALL)
_NO_MODULE = re.compile(r"(?:ModuleNotFoundError|ImportError): No module named '(?P<name>[\w.]+)'")


def python_differs(there: str, here: str) -> StorageError:
    """The error of executors with another minor version of Python."""
    return StorageError(
        f"the executors run Python {there}, this process Python {here}: functions cannot be sent between the two",
        hint="run Asof with the executors' minor version, or set `spark.pyspark.python` to this one on the server",
    )


def module_missing(name: str) -> StorageError:
    """The error of executors that lack a package."""
    if name == "asof" or name.startswith("asof."):
        return StorageError(
            f"the executors do not have Asof {installed_version()}, and the server takes no files of a session",
            hint=f"install it in the executors' Python: {install_command()}",
        )
    return StorageError(
        f"the executors lack the Python package of module {name.partition('.')[0]!r}",
        hint=f"install it in the executors' Python; {install_command('redis,postgres')} brings all",
    )


def package_differs(name: str, there: str, here: str) -> StorageError:
    """The error of executors with another version of a package that users' functions import."""
    found = f"{name} {there}" if there else f"no {name}"
    return StorageError(
        f"the executors have {found}, this process {here}: on-demand functions that import it run in this process",
        hint=f"install {name} {here} in the executors' Python",
    )


def is_picklable(function: BatchFunction) -> bool:
    """Whether a function can be sent: what it refers to may be bound to this process."""
    try:
        _pickled(function)
    except Exception:  # each object has its own for that
        return False
    return True


def versions_there(session: ServerSession, modules: list[str]) -> dict[str, str]:
    """The executors' versions of the packages that have these modules; empty where there is none."""

    def look(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        from asof.definitions.identity.objects import installed_version as version_of

        for batch in batches:
            if batch.num_rows:
                found = [version_of(each) for each in modules]
                yield pa.RecordBatch.from_arrays([pa.array(modules), pa.array(found)], ["module", "version"])

    schema = pa.schema([("module", pa.string()), ("version", pa.string())])
    found = session.spark.range(1).mapInArrow(look, from_arrow_schema(schema)).toArrow().to_pylist()
    return {each["module"]: each["version"] for each in found}


def _tried(session: ServerSession) -> Trial:
    try:
        there = python_there(session)
        if there.split(".")[:2] != platform.python_version().split(".")[:2]:
            return Trial(python_differs(_minor(there), _minor(platform.python_version())))
        is_sent = _send(session)
        version, missing, sorts = _probed(session)
    except DRIVER_ERRORS as error:
        if (refusal := failure_of(error)) is not None:
            return Trial(refusal)
        raise
    if missing:
        return Trial(module_missing(missing))
    if not is_sent and version != installed_version():
        there = "no version of Asof" if version == NOT_INSTALLED else f"Asof {version}"
        return Trial(
            StorageError(
                f"the executors have {there}, this process {installed_version()}, and the server takes no files of a "
                "session",
                hint=f"install the same version in the executors' Python: {install_command()}",
            )
        )
    return Trial(sorts=sorts, takes_files=is_sent)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def python_there(session: ServerSession) -> str:
    """The executors' version of Python, by a function that is sent by its name: code would not survive the way."""
    version: Any = functions.udf(platform.python_version, StringType())
    return str(session.spark.range(1).select(version()).toArrow().column(0)[0].as_py())


def _send(session: ServerSession) -> bool:
    """Send the package with the session; says whether the server takes files."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            session.spark.addArtifacts(str(write_archive(Path(folder))), pyfile=True)
        except DRIVER_ERRORS as error:
            if "artifact" in str(error).lower() and type(error).__name__ == "UnsupportedOperationException":
                return False
            raise
    return True


_PROBED = pa.schema([("version", pa.string()), ("missing", pa.string()), ("sorts", pa.bool_())])


def _probed(session: ServerSession) -> tuple[str, str, bool]:
    """The version of Asof on the executors, the first module that they lack, and whether sorted rows come sorted."""

    def probe(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import importlib

        seen: list[tuple[int, int]] = []
        for batch in batches:
            seen += zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True)
        missing = ""
        version = ""
        for name in (*needed, "asof"):
            try:
                importlib.import_module(name)
            except ImportError as error:
                missing = missing or str(error.name or name)
        if not missing:
            version = importlib.import_module("asof.distribution").installed_version()
        yield pa.RecordBatch.from_arrays(
            [pa.array([version]), pa.array([missing]), pa.array([seen == sorted(seen)])],
            ["version", "missing", "sorts"],
        )

    needed = NEEDED
    # Numbers that are in no order, whatever part they come to.
    col = functions.col
    rows = session.spark.range(256).select((col("id") * 7919 % 5).alias("k"), (col("id") * 31 % 256).alias("v"))
    parted = rows.repartition(2, col("k")).sortWithinPartitions(col("k"), col("v"))
    found = parted.mapInArrow(probe, from_arrow_schema(_PROBED)).toArrow().to_pylist()
    missing = next((each["missing"] for each in found if each["missing"]), "")
    return found[0]["version"], missing, all(each["sorts"] for each in found)


def _reported(function: BatchFunction, schema: pa.Schema, given: pa.Schema | None, order: tuple[str, ...]) -> Any:
    """The function as a worker runs it: over sorted rows, with its refusal as a row."""
    pickled = _pickled(function)

    def run(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return reported(pickled, schema, given, order, batches)

    return run


def _pickled(function: BatchFunction) -> bytes:
    """The function with the code of the modules that executors do not have: those of a feature repository."""
    names = {getattr(type(function), "__module__", ""), *getattr(function, "modules", ())}
    pickler: Any = cloudpickle
    own = [sys.modules[name] for name in sorted(names) if name in sys.modules and name.partition(".")[0] not in _THERE]
    with _PICKLING:
        for module in own:
            pickler.register_pickle_by_value(module)
        try:
            return bytes(pickler.dumps(function))
        finally:
            for module in own:
                pickler.unregister_pickle_by_value(module)


_PICKLING = threading.Lock()
"""cloudpickle's list of modules is one for the process."""

_THERE = {"asof", "builtins", "functools", *sys.stdlib_module_names} - {"__main__"}


def _raise_first(errors: pa.Array) -> None:
    if errors.null_count == len(errors):
        return
    raise_refusal(errors.drop_null()[0].as_py())


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and "SQLSTATE" not in line[:12]]
    return lines[-1].removesuffix("SQLSTATE: 38000").strip() if lines else "no reason was given"


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


__all__ = ["Executors", "Trial", "failure_of", "is_picklable", "python_there", "raise_refusal", "versions_there"]
