"""Spark Connect for tests: Sail, alone or with two workers, and Spark on the JVM, with or without executors of its own."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from tests.services.jars import SPARK_VERSION, java, spark_jars
from tests.services.processes import Process, Server, ServiceUnavailable

_OPENED = (
    "java.lang java.lang.invoke java.lang.reflect java.io java.net java.nio java.util java.util.concurrent "
    "java.util.concurrent.atomic sun.nio.ch sun.nio.cs sun.security.action sun.util.calendar"
).split()
"""Packages of `java.base` that Spark looks into; its own launcher opens them."""

_LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


class _Connect(Server):
    """What all share: the address, and when it is up.

    Options: `environment` (variables that its Python workers see too).
    """

    @property
    def url(self) -> str:
        return f"sc://127.0.0.1:{self.port}"

    def environment(self) -> Mapping[str, str]:
        # Executors find the code only where a session has sent it to them.
        hidden = {"PYTHONPATH": "", "PYTHONSAFEPATH": "1"}
        return {**hidden, **self.option("environment", {})}

    def is_ready(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True


class Sail(_Connect):
    """Sail in a process of its own; it runs Python functions within it."""

    name = "Sail"

    def command(self) -> Sequence[str]:
        if find_spec("pysail") is None:
            raise ServiceUnavailable(self.name, "no pysail here; it is part of the extra `test`")
        return [sys.executable, "-m", "pysail", "spark", "server", "--ip", "127.0.0.1", "--port", str(self.port)]


class SailCluster(Sail):
    """Sail with two workers, between which it shuffles rows."""

    name = "Sail cluster"

    def environment(self) -> Mapping[str, str]:
        return {
            **super().environment(),
            "SAIL_MODE": "local-cluster",
            "SAIL_CLUSTER__WORKER_INITIAL_COUNT": "2",
            "SAIL_CLUSTER__WORKER_MAX_COUNT": "2",
        }


class Spark(_Connect):
    """Spark's Connect server on the JVM, with two threads in place of executors.

    Options: `version`, `settings` (of Spark), `heap_mb` (default 1024), `python` (of its workers, which have the client's
    package; default: the one of the tests).
    """

    name = "Spark"
    # Beside other tests on two cores its start alone has taken two minutes.
    start_timeout_s = 400.0
    stop_timeout_s = 30.0
    master = "local[2]"

    def prepare(self) -> None:
        (self.directory / "log4j2.properties").write_text(_LOGGING)
        # Executors work below the home; the jars are shared by all servers.
        self._home.mkdir()
        (self._home / "jars").symlink_to(self._jars)

    @property
    def _jars(self) -> Path:
        return spark_jars(str(self.option("version", SPARK_VERSION)))

    @property
    def _home(self) -> Path:
        return self.directory / "home"

    @property
    def _python(self) -> str:
        return str(self.option("python", sys.executable))

    def command(self) -> Sequence[str]:
        settings = {
            "spark.master": self.master,
            "spark.app.name": "tests",
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            "spark.connect.grpc.binding.address": "127.0.0.1",
            "spark.connect.grpc.binding.port": self.port,
            "spark.ui.enabled": "false",
            "spark.local.dir": self.directory / "local",
            "spark.sql.warehouse.dir": self.directory / "warehouse",
            "spark.sql.catalogImplementation": "in-memory",
            # Two cores: each of the usual 200 parts of a shuffle would cost more than its rows.
            "spark.sql.shuffle.partitions": 4,
            "spark.pyspark.python": self._python,
            **self.option("settings", {}),
        }
        return [
            java(), f"-Xmx{self.option('heap_mb', 1024)}m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            "-Djava.awt.headless=true", "-Djava.net.preferIPv4Stack=true", "-Dio.netty.tryReflectionSetAccessible=true",
            *(f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in _OPENED),
            f"-Dlog4j2.configurationFile={self.directory}/log4j2.properties",
            *(f"-D{name}={value}" for name, value in settings.items()),
            "-cp", f"{self._jars}/*", "org.apache.spark.sql.connect.service.SparkConnectServer",
        ]  # fmt: skip

    def environment(self) -> Mapping[str, str]:
        return {
            **super().environment(), "SPARK_HOME": str(self._home), "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_PYTHON": self._python,
            # Its launcher of executors looks for the folders of a build where this is not said.
            "SPARK_SCALA_VERSION": "2.13",
        }  # fmt: skip


class SparkCluster(Spark):
    """Spark with two executors, processes of their own that a test may kill. Spark starts another in its place."""

    name = "Spark cluster"
    master = "local-cluster[2,1,1024]"

    def executors(self) -> list[Process]:
        """The living executors."""
        process = self.process
        return [] if process is None else [each for each in process.descendants() if _is_executor(each.pid)]

    def kill_executor(self) -> None:
        """Kill one executor at once, its Python workers with it."""
        executors = self.executors()
        if not executors:
            raise ServiceUnavailable(self.name, "no executor runs")
        executors[0].signal_tree(signal.SIGKILL)
        executors[0].wait(self.stop_timeout_s)


def _is_executor(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return b"CoarseGrainedExecutorBackend" in file.read()
    except OSError:
        return False


__all__ = ["Sail", "SailCluster", "Spark", "SparkCluster"]
