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
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyspark import cloudpickle
from pyspark.errors import PySparkException
from pyspark.sql.connect.dataframe import DataFrame as ConnectFrame
from pyspark.sql.connect.functions import col, lit, udf
from pyspark.sql.connect.session import SparkSession
from pyspark.sql.dataframe import DataFrame
from pyspark.sql.pandas.types import from_arrow_schema

import asof.errors
from asof.distribution import NOT_INSTALLED, install_command, installed_version
from asof.errors import AsofError, StorageError
from asof.offline.protocol import BatchFunction
from asof.offline.spark.package import write_archive
from asof.offline.spark.workers import ERROR, reported

NEEDED = ("pyarrow", "numpy", "msgspec", "yaml")
"""Modules that the functions need of other packages, whatever they do."""


class Executors:
    """The executors of one session; thread-safe. They are tried once, at the first use.

    Args:
        trial: the result in another session of the same server, where that is known.
    """

    def __init__(self, session: SparkSession, trial: Trial | None = None) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._tried = trial
        self._has_package = trial is None or not trial.takes_files

    @property
    def trial(self) -> Trial:
        """The result of the trial."""
        with self._lock:
            if self._tried is None:
                self._tried = _tried(self._session)
            elif not self._has_package:
                _send(self._session)
            self._has_package = True
            return self._tried

    def refusal(self) -> StorageError | None:
        """Why they cannot run Asof's functions, with the next step; None where they can."""
        return self.trial.refusal

    def mapped(
        self, frame: DataFrame, function: BatchFunction, schema: pa.Schema, *, keys: Sequence[str] = (),
        order: Sequence[str] = (), given: pa.Schema | None = None,
    ) -> DataFrame:  # fmt: skip
        """The rows that a function makes of the frame's, part by part; read them with `rows_of`.

        Args:
            schema: of the function's rows.
            keys: all rows with equal values in these columns are in one part.
            order: columns by which each part's rows come sorted.
            given: the frame's columns in Asof's types, which the function has them in.

        Raises:
            StorageError: see `refusal`.
        """
        trial = self.trial
        if trial.refusal is not None:
            raise trial.refusal
        if keys:
            frame = frame.repartition(*(col(_quoted(key)) for key in keys))
        if order and trial.sorts:
            frame = frame.sortWithinPartitions(*(col(_quoted(each)) for each in order))
        made = pa.schema([*schema, pa.field(ERROR, pa.string())])
        run = _reported(function, made, given, () if trial.sorts else tuple(order))
        return frame.mapInArrow(run, from_arrow_schema(made))


class Trial:
    """The result of trying a session's executors.

    Args:
        refusal: why they cannot run functions.
        sorts: rows sorted within parts come sorted to a function: not every engine heeds that.
        takes_files: the server gives them the files of a session.
    """

    def __init__(self, refusal: StorageError | None = None, *, sorts: bool = False, takes_files: bool = False) -> None:
        self.refusal, self.sorts, self.takes_files = refusal, sorts, takes_files


def rows_of(frame: DataFrame) -> Iterator[pa.RecordBatch]:
    """The rows of a frame that `mapped` made, in batches as they come.

    Raises:
        AsofError: what the function refused.
    """
    assert isinstance(frame, ConnectFrame)
    client = frame.sparkSession.client
    plan = frame._plan.to_proto(client)
    try:
        for table in client.to_table_as_iterator(plan, {}):
            if isinstance(table, pa.Table):
                for batch in table.to_batches():
                    _raise_first(batch.column(ERROR))
                    yield batch.drop_columns([ERROR])
    except PySparkException as error:
        raise failure_of(error) from error


def failure_of(error: PySparkException) -> AsofError:
    """The error of a function on executors that ended otherwise than by an `AsofError`."""
    text = str(error)
    if mismatch := _VERSIONS.search(text):
        return python_differs(mismatch["worker"], mismatch["driver"])
    if missing := _NO_MODULE.search(text):
        return module_missing(missing["name"])
    if "mapInArrow" not in text and "PYTHON" not in text.upper():
        return StorageError(
            f"the executors did not end their work: {_last_line(text)}",
            hint="run it again: what was written is written again without harm",
        )
    return StorageError(
        f"a function failed on an executor: {_last_line(text)}", hint="see the executors' log for its traceback"
    )


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


def _tried(session: SparkSession) -> Trial:
    try:
        there = _python_there(session)
        if there.split(".")[:2] != platform.python_version().split(".")[:2]:
            return Trial(python_differs(_minor(there), _minor(platform.python_version())))
        is_sent = _send(session)
        version, missing, sorts = _probed(session)
    except PySparkException as error:
        refusal = failure_of(error)
        return Trial(refusal if isinstance(refusal, StorageError) else StorageError(str(refusal)))
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


def _python_there(session: SparkSession) -> str:
    """The executors' version of Python, by a function that is sent by its name: code would not survive the way."""
    version: Any = udf(platform.python_version, "string")
    return str(session.range(1).select(version()).toArrow().column(0)[0].as_py())


def _send(session: SparkSession) -> bool:
    """Send the package with the session; says whether the server takes files."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            session.addArtifacts(str(write_archive(Path(folder))), pyfile=True)
        except PySparkException as error:
            if "artifact" in str(error).lower() and type(error).__name__ == "UnsupportedOperationException":
                return False
            raise
    return True


def _probed(session: SparkSession) -> tuple[str, str, bool]:
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
    rows = session.range(256).select(
        (col("id") * lit(7919) % lit(5)).alias("k"), (col("id") * lit(31) % lit(256)).alias("v")
    )
    parted = rows.repartition(2, col("k")).sortWithinPartitions(col("k"), col("v"))
    found = parted.mapInArrow(probe, "version string, missing string, sorts boolean").toArrow().to_pylist()
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
    said = json.loads(errors.drop_null()[0].as_py())
    kind: Any = getattr(asof.errors, said["error"], None)
    is_plain = isinstance(kind, type) and issubclass(kind, AsofError) and kind.__init__ is AsofError.__init__
    made: AsofError = (kind if is_plain else StorageError)(said["message"], hint=said["hint"], where=said["where"])
    made.may_pass = bool(said["may_pass"])
    raise made


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip() and "SQLSTATE" not in line[:12]]
    return lines[-1].removesuffix("SQLSTATE: 38000").strip() if lines else "no reason was given"


def _quoted(name: str) -> str:
    return "`" + name.replace("`", "``") + "`"


__all__ = ["Executors", "Trial", "failure_of", "rows_of"]
