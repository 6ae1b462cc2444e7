"""The servers that run on the JVM, fetched once from Maven Central and PyPI into the user's cache."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from tests.services.processes import ServiceUnavailable, run

KAFKA_VERSION = "4.3.1"
LOG4J_VERSION = "2.25.3"
# The last line of Apicurio Registry that runs on Java 17, as Debian 12 has it.
APICURIO_VERSION = "2.6.13.Final"
# The Python package of Spark holds the whole of it.
SPARK_VERSION = "4.2.0"
OLDEST_JAVA = 17

_POM = """\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>asof</groupId><artifactId>services-for-tests</artifactId><version>1</version><packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{kafka}</version>
    </dependency>
    <dependency>
      <groupId>org.apache.logging.log4j</groupId><artifactId>log4j-slf4j-impl</artifactId><version>{log4j}</version>
    </dependency>
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
            pom = new / "pom.xml"
            pom.write_text(_POM.format(kafka=KAFKA_VERSION, log4j=LOG4J_VERSION))
            _maven("Kafka", "dependency:copy-dependencies", "-f", str(pom), f"-DoutputDirectory={new}")
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


def spark_home() -> Path:
    """The folder of Spark: its jars, and the Python of its workers."""
    folder = cache() / f"spark-{SPARK_VERSION}"
    if not folder.exists():
        with new_folder(folder) as new:
            # Alone, in a folder that is on nobody's path: it has the same modules as the client without a JVM.
            pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--quiet", "--no-deps"]
            try:
                run("Spark", [*pip, "--target", str(new), f"pyspark=={SPARK_VERSION}"], timeout=900)
            except subprocess.TimeoutExpired as error:
                raise ServiceUnavailable("Spark", "pip did not fetch it within 15 minutes") from error
    return folder / "pyspark"


def fetch_all() -> list[Path]:
    """Fetch what is not there yet; answer the folders. Spark, half a gigabyte, is fetched when it is first started."""
    return [kafka_jars(), schema_registry_app()]


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


def _maven(service: str, *arguments: str) -> None:
    program = shutil.which("mvn")
    if program is None:
        raise ServiceUnavailable(service, "no mvn here to fetch it; scripts/install_services.sh installs it")
    try:
        run(service, [program, "--batch-mode", "--quiet", *arguments], cwd=tempfile.gettempdir(), timeout=600)
    except subprocess.TimeoutExpired as error:
        raise ServiceUnavailable(service, "mvn did not fetch it within 10 minutes") from error
