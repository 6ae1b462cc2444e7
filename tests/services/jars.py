"""What tests fetch once into the user's cache: servers that run on the JVM (Maven Central), other versions (PyPI)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.services.processes import ServiceUnavailable, run

KAFKA_VERSION = "4.3.1"
LOG4J_VERSION = "2.25.3"
# The last line of Apicurio Registry that runs on Java 17, as Debian 12 has it.
APICURIO_VERSION = "2.6.13.Final"
SPARK_VERSION = "4.2.0"
SPARK_LEFT_OUT = (
    "org.rocksdb:rocksdbjni", "org.openlabtesting.leveldbjni:leveldbjni-all", "org.apache.zookeeper:zookeeper",
    "org.apache.curator:curator-recipes", "org.apache.curator:curator-framework", "org.apache.curator:curator-client",
    "io.netty:netty-tcnative-boringssl-static", "io.netty:netty-transport-native-epoll",
    "io.netty:netty-transport-native-kqueue", "com.google.crypto.tink:tink",
)  # fmt: skip
"""A third of Spark's bytes: state of streams, clusters with standby masters, TLS between executors, native sockets."""
OLDEST_JAVA = 17

_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>asof</groupId><artifactId>services-for-tests</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
{dependencies}
  </dependencies>
</project>
"""


def cache() -> Path:
    """Where fetched servers are kept: `ASOF_TEST_CACHE`, else `asof` in the user's cache."""
    given = os.environ.get("ASOF_TEST_CACHE")
    return Path(given) if given else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "asof"


def java() -> str:
    """The Java program, if it is new enough."""
    path = shutil.which("java")
    if path is None:
        raise ServiceUnavailable("Java", "no java here; scripts/install_services.sh installs it")
    said = subprocess.run([path, "-version"], capture_output=True, text=True).stderr
    version = re.search(r'version "(\d+)', said)
    if version is None or int(version[1]) < OLDEST_JAVA:
        raise ServiceUnavailable("Java", f"{OLDEST_JAVA} or later is needed, found: {said.splitlines()[:1]}")
    return path


def kafka_jars() -> Path:
    """The folder of Kafka's jars."""
    folder = cache() / f"kafka-{KAFKA_VERSION}"
    if not folder.exists():
        with new_folder(folder) as new:
            log4j = f"org.apache.logging.log4j:log4j-slf4j-impl:{LOG4J_VERSION}"
            _fetch_jars("Kafka", new, {f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}": (), log4j: ()})
    return folder


def schema_registry_app() -> Path:
    """The folder of Apicurio Registry, unpacked."""
    folder = cache() / f"apicurio-registry-{APICURIO_VERSION}"
    if not folder.exists():
        with new_folder(folder) as new:
            artifact = f"io.apicurio:apicurio-registry-app:{APICURIO_VERSION}:tar.gz:all"
            _maven("Schema registry", "dependency:copy", f"-Dartifact={artifact}", f"-DoutputDirectory={new}")
            (archive,) = new.glob("*.tar.gz")
            with tarfile.open(archive) as file:
                file.extractall(new, filter="data")
            archive.unlink()
    return folder


def spark_jars(version: str = SPARK_VERSION) -> Path:
    """The folder of Spark's jars, with what its Connect server needs. The Python of its workers is the client's."""
    folder = cache() / f"spark-connect-ml-{version}"
    if not folder.exists():
        with new_folder(folder) as new:
            needed = {
                f"org.apache.spark:spark-connect_2.13:{version}": SPARK_LEFT_OUT,
                # The server wants classes of it, and of what they need, when it plans and when a session ends.
                f"org.apache.spark:spark-mllib_2.13:{version}": SPARK_LEFT_OUT,
            }
            _fetch_jars("Spark", new, needed)
    return folder


def python_package(name: str, version: str) -> Path:
    """The folder of a Python package alone, for `PYTHONPATH`: in another version than the tests' environment has."""
    folder = cache() / f"{name}-{version}"
    if not folder.exists():
        with new_folder(folder) as new:
            pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-deps"]
            try:
                run(name, [*pip, "--target", str(new), f"{name}=={version}"], timeout=600)
            except subprocess.TimeoutExpired as error:
                raise ServiceUnavailable(name, "pip did not fetch it within 10 minutes") from error
    return folder


def fetch_all(*, with_spark: bool) -> list[Path]:
    """Fetch what is not there yet; answer the folders. Spark's 250 MB are for tests only."""
    return [kafka_jars(), schema_registry_app(), *([spark_jars()] if with_spark else [])]


class new_folder:  # noqa: N801, used like a function
    """A folder that takes its place only when it is complete, whoever else makes it meanwhile."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Path:
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self.path = Path(tempfile.mkdtemp(dir=self.folder.parent, prefix="fetch-"))
        return self.path

    def __exit__(self, failed: object, *_: object) -> None:
        if not failed:
            try:
                self.path.rename(self.folder)
            except OSError:
                if not self.folder.exists():
                    raise
        shutil.rmtree(self.path, ignore_errors=True)


def _fetch_jars(service: str, folder: Path, artifacts: Mapping[str, Sequence[str]]) -> None:
    """Fetch artifacts and what they need into a folder.

    Args:
        artifacts: `group:name:version` → `group:name` of what it names and does not need here; `*` is any.
    """
    named = ("groupId", "artifactId", "version")
    lines = []
    for artifact, left_out in artifacts.items():
        without = "".join(f"<exclusion>{_tags(each, named)}</exclusion>" for each in left_out)
        lines.append(f"    <dependency>{_tags(artifact, named)}<exclusions>{without}</exclusions></dependency>")
    pom = folder / "pom.xml"
    pom.write_text(_POM.format(dependencies="\n".join(lines)))
    _maven(service, "dependency:copy-dependencies", "-f", str(pom), f"-DoutputDirectory={folder}")


def _tags(artifact: str, names: Sequence[str]) -> str:
    return "".join(f"<{name}>{value}</{name}>" for name, value in zip(names, artifact.split(":"), strict=False))


def _maven(service: str, *arguments: str) -> None:
    program = shutil.which("mvn")
    if program is None:
        raise ServiceUnavailable(service, "no mvn here to fetch it; scripts/install_services.sh installs it")
    try:
        run(service, [program, "--batch-mode", "--quiet", *arguments], cwd=tempfile.gettempdir(), timeout=600)
    except subprocess.TimeoutExpired as error:
        raise ServiceUnavailable(service, "mvn did not fetch it within 10 minutes") from error
