"""PostgreSQL for tests: a cluster of its own, with passwords, TLS, an ordinary user and, if asked, a standby."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from urllib.parse import quote, urlencode

from tests.services.certificates import Certificates
from tests.services.processes import Server, ServiceUnavailable, run

ADMIN, ADMIN_PASSWORD = "postgres", "admin-secret"
USER, PASSWORD = "asof", "asof-secret"


def find_program(name: str) -> str:
    """A program of the newest installed PostgreSQL server."""
    found = sorted(glob(f"/usr/lib/postgresql/*/bin/{name}"), key=lambda path: int(Path(path).parts[4]))
    path = found[-1] if found else shutil.which(name)
    if path is None:
        raise ServiceUnavailable("PostgreSQL", f"no {name} here; scripts/install_services.sh installs it")
    return path


class Postgres(Server):
    """A PostgreSQL server of its own.

    Options: `fsync` (default off: the data need not outlive lost power, and a kill does not lose it), `settings` (of
    postgresql.conf), `hba` (lines of pg_hba.conf), `icu_locale`.
    """

    name = "PostgreSQL"
    # Fast: it disconnects the clients, which a plain SIGTERM waits for.
    stop_signal = signal.SIGINT

    @property
    def user(self) -> str | None:
        """PostgreSQL refuses to run as root."""
        return "postgres" if os.geteuid() == 0 else None

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def certificates(self) -> Certificates:
        return Certificates.below(self.directory.parent / "certificates")

    def prepare(self) -> None:
        self._own(self.directory)
        standby_of = self.option("standby_of")
        if standby_of is None:
            self._init()
        else:
            backup = ("-D", str(self.data), "-d", str(standby_of), "-R", "-X", "stream", "-c", "fast")
            run(self.name, [find_program("pg_basebackup"), *backup], user=self.user, cwd="/")
        self._write("postgresql.auto.conf", self._settings_text(), mode="a")

    def _init(self) -> None:
        # Not the C locale: text that must compare by code points then has to say so.
        password = self.directory / "password"
        password.write_text(ADMIN_PASSWORD)
        self._own(password)
        locale = ["--locale=C", "--locale-provider=icu", f"--icu-locale={self.option('icu_locale', 'en-US')}"]
        access = ["-U", ADMIN, "--pwfile", str(password), "--auth=scram-sha-256", "--encoding=UTF8", "--no-sync"]
        run(self.name, [find_program("initdb"), "-D", str(self.data), *access, *locale], user=self.user, cwd="/")
        for source, name in ((self.certificates.certificate, "server.crt"), (self.certificates.key, "server.key")):
            self._write(name, source.read_text())
        if hba := self.option("hba"):
            self._write("pg_hba.conf", "\n".join((*hba, "")))

    def _settings_text(self) -> str:
        durable = "on" if self.option("fsync", False) else "off"
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": "",
            "fsync": durable,
            "synchronous_commit": durable,
            "full_page_writes": durable,
            "max_connections": 300,
            "shared_buffers": "128MB",
            "max_wal_size": "2GB",
            "timezone": "UTC",
            "ssl": "on",
            "hot_standby": "on",
            **self.option("settings", {}),
        }
        return "".join(f"{name} = '{value}'\n" for name, value in settings.items())

    def command(self) -> Sequence[str]:
        return [find_program("postgres"), "-D", str(self.data)]

    def is_ready(self) -> bool:
        import psycopg

        with psycopg.connect(self.admin_url, connect_timeout=5, autocommit=True) as connection:
            if (
                self.option("standby_of") is None
                and not connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [USER]).fetchone()
            ):
                connection.execute(f"CREATE ROLE {USER} LOGIN PASSWORD '{PASSWORD}'")
        return True

    @property
    def admin_url(self) -> str:
        """The superuser's, of the database `postgres`."""
        return self.url("postgres", user=ADMIN, password=ADMIN_PASSWORD)

    def url(
        self, database: str, *, user: str = USER, password: str = PASSWORD, host: str = "127.0.0.1", **parameters: str
    ) -> str:
        """The URL of a database, for the ordinary user unless another is named; parameters are libpq's."""
        query = f"?{urlencode(parameters)}" if parameters else ""
        return f"postgresql://{user}:{quote(password)}@{host}:{self.port}/{database}{query}"

    def execute(self, statement: str) -> None:
        """Run one statement as the superuser."""
        import psycopg

        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            connection.execute(statement)

    def create_database(self, name: str) -> str:
        """Make an empty database that belongs to the ordinary user; answer its URL."""
        self.execute(f'CREATE DATABASE "{name}" OWNER {USER}')
        return self.url(name)

    def ensure_database(self, name: str) -> None:
        """Make a database of the ordinary user's, unless it is there."""
        import psycopg

        try:
            self.create_database(name)
        except psycopg.errors.DuplicateDatabase:
            pass

    def drop_database(self, name: str) -> None:
        """Remove a database, whoever is connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')

    @property
    def standby_options(self) -> dict[str, object]:
        """The options of a read-only standby of this server: `private(Postgres, **primary.standby_options)`."""
        return {"standby_of": self.admin_url}

    def _write(self, name: str, text: str, *, mode: str = "w") -> None:
        path = self.data / name
        with path.open(mode) as file:
            file.write(text)
        path.chmod(0o600)
        self._own(path)

    def _own(self, path: Path) -> None:
        if self.user:
            shutil.chown(path, self.user, self.user)
