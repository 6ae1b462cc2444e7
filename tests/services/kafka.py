"""Apache Kafka for tests: one broker in KRaft mode, with plain, TLS and password listeners and quick group timeouts."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from tests.services.certificates import Certificates
from tests.services.jars import java, kafka_jars
from tests.services.processes import Server, run

USER, PASSWORD = "asof", "asof-secret"

_LOGGING = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss.SSS} %p %c{1}: %m%n
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
"""


class Kafka(Server):
    """A broker that is its own controller. Topics are made by `create_topic` only.

    Options: `heap_mb` (default 512), `settings` (of server.properties).
    """

    name = "Kafka"
    port_names = ("port", "tls_port", "sasl_port", "controller_port")
    stop_timeout_s = 30.0

    @property
    def certificates(self) -> Certificates:
        return Certificates.below(self.directory.parent / "certificates")

    def prepare(self) -> None:
        tls = self.directory / "server.pem"
        tls.write_text(self.certificates.key.read_text() + self.certificates.certificate.read_text())
        tls.chmod(0o600)
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{self.port_of('controller_port')}",
            "controller.listener.names": "CONTROLLER",
            "listeners": self._listeners(controller=True),
            "advertised.listeners": self._listeners(controller=False),
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL:SASL_PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": tls,
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256",
            "listener.name.sasl.plain.sasl.jaas.config": (
                f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
            ),
            "listener.name.sasl.scram-sha-256.sasl.jaas.config": (
                "org.apache.kafka.common.security.scram.ScramLoginModule required;"
            ),
            # What has an access list is for those on it; the plain listener is the administrator's.
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "true",
            "super.users": "User:ANONYMOUS",
            "log.dirs": self.directory / "data",
            "auto.create.topics.enable": "false",
            "delete.topic.enable": "true",
            "num.partitions": 1,
            "offsets.topic.num.partitions": 4,
            "offsets.topic.replication.factor": 1,
            "transaction.state.log.num.partitions": 2,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            # Tests do not want to wait for rebalances, dead members, retention, and a killed broker's old session.
            "broker.session.timeout.ms": 2000,
            "broker.heartbeat.interval.ms": 500,
            "group.initial.rebalance.delay.ms": 0,
            "group.min.session.timeout.ms": 1000,
            "group.consumer.min.session.timeout.ms": 1000,
            "group.consumer.min.heartbeat.interval.ms": 200,
            "log.retention.check.interval.ms": 1000,
            "log.segment.delete.delay.ms": 500,
            "log.initial.task.delay.ms": 1000,
            **self.option("settings", {}),
        }
        (self.directory / "server.properties").write_text(
            "".join(f"{key}={value}\n" for key, value in settings.items())
        )
        (self.directory / "log4j2.properties").write_text(_LOGGING)
        scram = f"SCRAM-SHA-256=[name={USER},password={PASSWORD}]"
        storage = ("kafka.tools.StorageTool", "format", "-t", "AAAAAAAAQACAAAAAAAAAAQ", "-c", "server.properties")
        run(self.name, [*self._java(128), *storage, "--add-scram", scram], cwd=self.directory)

    def _listeners(self, *, controller: bool) -> str:
        names = {"PLAINTEXT": "port", "SSL": "tls_port", "SASL": "sasl_port"}
        if controller:
            names["CONTROLLER"] = "controller_port"
        return ",".join(f"{name}://127.0.0.1:{self.port_of(port)}" for name, port in names.items())

    def _java(self, heap_mb: object) -> list[str]:
        logging = f"-Dlog4j2.configurationFile={self.directory}/log4j2.properties"
        quick = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Djava.awt.headless=true")
        return [java(), f"-Xmx{heap_mb}m", *quick, logging, "-cp", f"{kafka_jars()}/*"]

    def command(self) -> Sequence[str]:
        return [*self._java(self.option("heap_mb", 512)), "kafka.Kafka", str(self.directory / "server.properties")]

    def is_ready(self) -> bool:
        # librdkafka grumbles about each refused connection on the error output.
        with socket.create_connection(("127.0.0.1", self.port), timeout=1):
            pass
        return bool(self.admin().list_topics(timeout=2).brokers)

    @property
    def url(self) -> str:
        return self.bootstrap

    @property
    def bootstrap(self) -> str:
        """The plain listener's address."""
        return f"127.0.0.1:{self.port}"

    @property
    def tls(self) -> dict[str, str]:
        """librdkafka's settings for the TLS listener."""
        return {
            "bootstrap.servers": f"localhost:{self.port_of('tls_port')}",
            "security.protocol": "SSL",
            "ssl.ca.location": str(self.certificates.ca),
        }

    def sasl(self, mechanism: str = "SCRAM-SHA-256") -> dict[str, str]:
        """librdkafka's settings for the listener with passwords; mechanism PLAIN or SCRAM-SHA-256."""
        return {
            "bootstrap.servers": f"127.0.0.1:{self.port_of('sasl_port')}",
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": mechanism,
            "sasl.username": USER,
            "sasl.password": PASSWORD,
        }

    def admin(self):
        """An administrator's client of confluent-kafka."""
        from confluent_kafka.admin import AdminClient

        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 2, "reconnect.backoff.max.ms": 200})

    def create_topic(self, topic: str, partitions: int = 1, **config: object) -> None:
        """Make a topic; `config` with underscores for dots: `retention_ms=1000`."""
        from confluent_kafka.admin import NewTopic

        settings = {name.replace("_", "."): str(value) for name, value in config.items()}
        new = NewTopic(topic, num_partitions=partitions, replication_factor=1, config=settings)
        admin = self.admin()
        for made in admin.create_topics([new], operation_timeout=10).values():
            made.result(30)

    def delete_topic(self, topic: str) -> None:
        admin = self.admin()
        for gone in admin.delete_topics([topic], operation_timeout=10).values():
            gone.result(30)
