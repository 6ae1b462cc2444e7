"""Redis for tests: one server, a master with replica and Sentinel, and a cluster of three; each with TLS and passwords."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from tests.services.certificates import Certificates
from tests.services.processes import Server, ServiceUnavailable, wait_until

PASSWORD = "redis-secret"
USER, USER_PASSWORD = "asof", "asof-secret"


def find_redis() -> str:
    """Redis' server program, or Valkey's."""
    path = shutil.which("redis-server") or shutil.which("valkey-server")
    if path is None:
        raise ServiceUnavailable("Redis", "no redis-server here; scripts/install_services.sh installs it")
    return path


class Redis(Server):
    """One Redis server that keeps an append-only file.

    User `default` and user `asof` (without the administrator's commands) have passwords. Options: `appendfsync`
    (default everysec), `replica_of` (a port), `cluster` (a node of one), `settings` (of redis.conf).
    """

    name = "Redis"
    port_names = ("port", "tls_port", "bus_port")

    @property
    def certificates(self) -> Certificates:
        return Certificates.below(self.directory.parent / "certificates")

    def prepare(self) -> None:
        replica_of = self.option("replica_of")
        settings: dict[str, object] = {
            "bind": "127.0.0.1",
            "port": self.port,
            "tls-port": self.port_of("tls_port"),
            "tls-cert-file": self.certificates.certificate,
            "tls-key-file": self.certificates.key,
            "tls-ca-cert-file": self.certificates.ca,
            "tls-auth-clients": "no",
            "dir": self.directory,
            "save": '""',
            "appendonly": "yes",
            "appendfsync": self.option("appendfsync", "everysec"),
            "masterauth": PASSWORD,
            "enable-debug-command": "local",
            "repl-diskless-sync-delay": 0,
            **({"replicaof": f"127.0.0.1 {replica_of}"} if replica_of else {}),
            **(self._cluster_settings() if self.option("cluster") else {}),
            **self.option("settings", {}),
        }
        users = (
            f"user default on >{PASSWORD} ~* &* +@all",
            f"user {USER} on >{USER_PASSWORD} ~* &* +@all -@admin",
        )
        lines = [f"{name} {value}" for name, value in settings.items()]
        (self.directory / "redis.conf").write_text("\n".join((*lines, *users, "")))

    def _cluster_settings(self) -> dict[str, object]:
        return {
            "cluster-enabled": "yes",
            "cluster-port": self.port_of("bus_port"),
            "cluster-node-timeout": 2000,
            "cluster-announce-ip": "127.0.0.1",
            # A replica here may always be elected, however long its last word with the master is ago: an election
            # that a slow machine delays is to be late, not impossible.
            "cluster-replica-validity-factor": 0,
        }

    def command(self) -> Sequence[str]:
        return [find_redis(), str(self.directory / "redis.conf")]

    def is_ready(self) -> bool:
        with self.client() as client:
            if client.info("persistence")["loading"]:
                return False
            return not self.option("replica_of") or client.info("replication").get("master_link_status", "up") == "up"

    @property
    def url(self) -> str:
        """The ordinary user's."""
        return f"redis://{USER}:{USER_PASSWORD}@127.0.0.1:{self.port}/0"

    @property
    def tls_url(self) -> str:
        """The ordinary user's, through TLS; trust `certificates.ca`."""
        return f"rediss://{USER}:{USER_PASSWORD}@127.0.0.1:{self.port_of('tls_port')}/0"

    @property
    def admin_url(self) -> str:
        """The administrator's, who may `FLUSHALL`, `DEBUG` and `CLIENT KILL`."""
        return f"redis://:{PASSWORD}@127.0.0.1:{self.port}/0"

    @property
    def is_replicated(self) -> bool:
        """Whether a replica has acknowledged all that this master holds; they do once a second."""
        with self.client() as client:
            info = client.info("replication")
        replicas = [value for name, value in info.items() if name.startswith("slave") and isinstance(value, dict)]
        return any(
            each["state"] == "online" and int(each["offset"]) >= int(info["master_repl_offset"]) for each in replicas
        )

    def client(self):
        """An administrator's client of redis-py."""
        import redis

        return redis.Redis.from_url(self.admin_url, socket_timeout=10, socket_connect_timeout=5)


class Sentinel(Server):
    """One Sentinel process, which watches the master that option `master` names by its port."""

    name = "Sentinel"

    def prepare(self) -> None:
        group, master = self.option("group"), self.option("master")
        lines = (
            "bind 127.0.0.1",
            f"port {self.port}",
            f"dir {self.directory}",
            f"requirepass {PASSWORD}",
            f"sentinel monitor {group} 127.0.0.1 {master} 1",
            f"sentinel auth-pass {group} {PASSWORD}",
            f"sentinel down-after-milliseconds {group} 2000",
            f"sentinel failover-timeout {group} 5000",
        )
        (self.directory / "sentinel.conf").write_text("\n".join((*lines, "")))

    def command(self) -> Sequence[str]:
        return [find_redis(), str(self.directory / "sentinel.conf"), "--sentinel"]

    def is_ready(self) -> bool:
        with self.client() as client:
            return bool(client.sentinel_slaves(self.option("group")))

    def client(self):
        import redis

        return redis.Redis(port=self.port, password=PASSWORD, decode_responses=True, socket_timeout=10)


class Several:
    """Several servers that make one service."""

    name = "several"

    def __init__(self, directory: Path, **options: object) -> None:
        self.directory = directory
        self.options = options

    @property
    def servers(self) -> Sequence[Server]:
        raise NotImplementedError

    @property
    def certificates(self) -> Certificates:
        return Certificates.below(self.directory / "certificates")

    def start(self) -> None:
        raise NotImplementedError

    def stop(self) -> None:
        for server in self.servers:
            server.stop()

    def kill(self) -> None:
        for server in self.servers:
            server.kill()

    def restart(self, *, kill: bool = False) -> None:
        self.kill() if kill else self.stop()
        self.start()

    def pause(self) -> None:
        for server in self.servers:
            server.pause()

    def resume(self) -> None:
        for server in self.servers:
            server.resume()

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


class RedisSentinel(Several):
    """A master, a replica and a Sentinel, which makes the replica master when the master is gone for two seconds."""

    name = "Redis Sentinel"
    group = "shop"

    def __init__(self, directory: Path, **options: object) -> None:
        super().__init__(directory, **options)
        self.first = Redis(directory / "first", **options)
        self._attach()

    def _attach(self) -> None:
        if (self.directory / "first" / "settings.json").exists():
            self.second = Redis(self.directory / "second", replica_of=self.first.port, **self.options)
            self.sentinel = Sentinel(self.directory / "sentinel", group=self.group, master=self.first.port)

    @property
    def servers(self) -> Sequence[Server]:
        return (self.first, self.second, self.sentinel)

    def start(self) -> None:
        self.first.start()
        self._attach()
        self.second.start()
        self.sentinel.start()

    @property
    def sentinels(self) -> list[tuple[str, int]]:
        """The addresses to ask for the master of `group`; they want the password `sentinel_password`."""
        return [("127.0.0.1", self.sentinel.port)]

    @property
    def sentinel_password(self) -> str:
        return PASSWORD

    @property
    def master(self) -> Redis:
        """The server that Sentinel says is master now."""
        return self._by_role(master=True)

    @property
    def replica(self) -> Redis:
        """The other one."""
        return self._by_role(master=False)

    def _by_role(self, *, master: bool) -> Redis:
        with self.sentinel.client() as client:
            port = int(client.sentinel_get_master_addr_by_name(self.group)[1])
        return next(server for server in (self.first, self.second) if (server.port == port) == master)

    def wait_for_master(self, server: Redis, *, timeout_s: float = 30) -> None:
        """Wait until Sentinel names `server` and it takes writes."""

        def writable() -> bool:
            with server.client() as client:
                return self.master.port == server.port and client.role()[0] == b"master"

        wait_until(writable, self.name, timeout_s=timeout_s)

    def fail_over(self) -> Redis:
        """Make the replica master, as an operator would; answer the new master."""
        to_be = self.replica
        with self.sentinel.client() as client:
            client.execute_command("SENTINEL", "FAILOVER", self.group)
        self.wait_for_master(to_be)
        return to_be


class RedisCluster(Several):
    """Three masters that share the slots. Options: those of `Redis`."""

    name = "Redis Cluster"

    def __init__(self, directory: Path, **options: object) -> None:
        super().__init__(directory, **options)
        self.nodes = [Redis(directory / f"node-{number}", cluster=True, **options) for number in range(3)]

    @property
    def servers(self) -> Sequence[Server]:
        return self.nodes

    @property
    def url(self) -> str:
        """The ordinary user's, of the first node."""
        return self.nodes[0].url.removesuffix("/0")

    @property
    def tls_url(self) -> str:
        return self.nodes[0].tls_url.removesuffix("/0")

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        with self.nodes[0].client() as client:
            if client.cluster("INFO")["cluster_slots_assigned"] != "16384":
                self._form()
        self.wait_until_known(self.nodes)

    def add_replica(self, replica: Redis, *, of: Redis) -> None:
        """Make `replica`, an empty node of no cluster, a replica of the master `of`; wait until all nodes know it as that."""
        with of.client() as master, replica.client() as new:
            new.execute_command("CLUSTER", "MEET", "127.0.0.1", of.port, of.port_of("bus_port"))
            id = master.execute_command("CLUSTER MYID").decode()
            self.wait_until_known((*self.nodes, replica))
            new.execute_command("CLUSTER", "REPLICATE", id)
            wait_until(lambda: new.info("replication").get("master_link_status") == "up", self.name, timeout_s=30)
        self.wait_until_known((*self.nodes, replica), replicas=1)

    def wait_until_known(self, members: Sequence[Redis], *, replicas: int = 0) -> None:
        """Wait until each member sees all of them, connected, with the same roles, and all slots served.

        The count of known nodes would not do: one in the middle of a handshake counts, and may be dropped again.
        """
        ports = {f"127.0.0.1:{member.port}" for member in members}

        def all_agree() -> bool:
            views = [_members(member) for member in members]
            first = views[0]
            return (
                set(first) == ports
                and all(view == first for view in views)
                and sum("slave" in flags for flags, _ in first.values()) == replicas
            )

        wait_until(all_agree, self.name, timeout_s=30)

    def _form(self) -> None:
        bounds = [16384 * number // len(self.nodes) for number in range(len(self.nodes) + 1)]
        for node, first, after in zip(self.nodes, bounds, bounds[1:]):
            with node.client() as client:
                # Epochs of their own, as redis-cli gives: equal ones are told apart later, in the midst of a fail-over.
                client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", self.nodes.index(node) + 1)
                client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, after - 1)
                if node is not self.nodes[0]:
                    to = self.nodes[0]
                    client.execute_command("CLUSTER", "MEET", "127.0.0.1", to.port, to.port_of("bus_port"))


def _members(node: Redis) -> dict[str, tuple[frozenset[str], str]]:
    """What a node knows of each node by address, if its cluster is whole: its flags, and its master."""
    with node.client() as client:
        if client.cluster("INFO")["cluster_state"] != "ok":
            return {}
        known = client.execute_command("CLUSTER NODES")
    if not all(facts["connected"] for facts in known.values()):
        return {}
    return {
        address: (frozenset(facts["flags"].split(",")) - {"myself"}, facts["master_id"])
        for address, facts in known.items()
    }
