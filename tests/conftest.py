"""What holds for all tests: readable assertions in the shipped suites too, and servers that start when a test asks."""

import signal
import threading
import uuid
from contextlib import ExitStack

import hypothesis
import pytest

from tests.other_buckets import provided
from tests.services import (
    S3,
    Kafka,
    Postgres,
    Redis,
    RedisCluster,
    RedisSentinel,
    S3Proxy,
    Sail,
    SailCluster,
    SchemaRegistry,
    ServiceUnavailable,
    Spark,
    SparkCluster,
    private,
    shared,
    unavailable,
)
from tests.services.sharing import close_run, open_run

# The conformance suites are part of the package; without this their failures would show no values.
pytest.register_assert_rewrite("asof.testing", "tests.matrix.outcomes", "tests.browser.walk")

# A busy machine makes an example slow, not wrong: hypothesis' limit of 200 ms each is no test of the product.
hypothesis.settings.register_profile("asof", deadline=None)
hypothesis.settings.load_profile("asof")

SHARED = {
    "postgres": Postgres,
    "redis": Redis,
    "redis_sentinel": RedisSentinel,
    "redis_cluster": RedisCluster,
    "kafka": Kafka,
    "schema_registry": SchemaRegistry,
    "s3": S3,
    "sail": Sail,
    "sail_cluster": SailCluster,
    "spark": Spark,
    "spark_cluster": SparkCluster,
}


def pytest_configure():
    # A shell that runs the tests in the background has them ignore Ctrl-C, and so would every process that they start.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
    open_run()


def pytest_unconfigure():
    close_run()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """`--dist loadfile` as `tests.scheduling` orders it."""
    if config.getvalue("dist") != "loadfile":
        return None
    from tests.scheduling import WaitingBeside

    return WaitingBeside(config, log)


def pytest_collection_finish(session):
    """Start the servers that the chosen tests will ask for, beside the first tests."""
    wanted = {name for item in session.items for name in getattr(item, "fixturenames", ())}
    if not session.config.option.collectonly:
        for name in SHARED.keys() & wanted:
            threading.Thread(target=_start, args=(SHARED[name],), daemon=True).start()


def _start(kind):
    try:
        shared(kind)
    except ServiceUnavailable:
        pass  # told to the test that asks


def _shared_or_skip(kind):
    try:
        return shared(kind)
    except ServiceUnavailable as error:
        unavailable(error.service, error.reason)


@pytest.fixture(scope="session")
def postgres():
    """The run's PostgreSQL. A test works in a database of its own: `postgres_url`."""
    return _shared_or_skip(Postgres)


@pytest.fixture(scope="session")
def redis():
    """The run's Redis. A test's keys begin with its `key_prefix`."""
    return _shared_or_skip(Redis)


@pytest.fixture(scope="session")
def redis_sentinel():
    """The run's Redis master and replica with a Sentinel. Whoever fails it over takes `private_redis_sentinel`."""
    return _shared_or_skip(RedisSentinel)


@pytest.fixture(scope="session")
def redis_cluster():
    """The run's Redis Cluster of three masters."""
    return _shared_or_skip(RedisCluster)


@pytest.fixture(scope="session")
def kafka():
    """The run's Kafka broker. A test's topics and groups begin with its `topic_prefix`."""
    return _shared_or_skip(Kafka)


@pytest.fixture(scope="session")
def schema_registry():
    """The run's schema registry. A test's subjects begin with its `topic_prefix`."""
    return _shared_or_skip(SchemaRegistry)


@pytest.fixture(scope="session")
def s3():
    """The run's S3 server. A test works in a bucket of its own: `bucket`."""
    return _shared_or_skip(S3)


@pytest.fixture(scope="session")
def sail():
    """The run's Sail, a Spark Connect server. Its sessions share nothing."""
    return _shared_or_skip(Sail)


@pytest.fixture(scope="session")
def sail_cluster():
    """The run's Sail with two workers."""
    return _shared_or_skip(SailCluster)


@pytest.fixture(scope="session")
def spark():
    """The run's Spark on the JVM, without executors of its own."""
    return _shared_or_skip(Spark)


@pytest.fixture(scope="session")
def spark_cluster():
    """The run's Spark with two executors. Whoever kills one takes `private_service(SparkCluster)`."""
    return _shared_or_skip(SparkCluster)


@pytest.fixture
def bucket(s3):
    """The address of an empty bucket, `s3://NAME`."""
    return s3.create_bucket(f"test-{uuid.uuid4().hex[:12]}")


@pytest.fixture(scope="session", params=["azure", "google"])
def other_provider(request, tmp_path_factory):
    """The run's servers of Azure and Google: a test that takes it runs on each of them."""
    try:
        with provided(request.param, tmp_path_factory.mktemp(request.param)) as provider:
            yield provider
    except ServiceUnavailable as error:
        unavailable(error.service, error.reason)


@pytest.fixture
def s3_proxy(s3):
    """A proxy before the run's S3 server, which counts requests and makes faults."""
    proxy = S3Proxy(s3)
    yield proxy
    proxy.close()


@pytest.fixture
def postgres_url(postgres):
    """The URL of an empty database that this test's ordinary user owns."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield postgres.create_database(name)
    postgres.drop_database(name)


@pytest.fixture
def key_prefix():
    """What the keys of this test begin with, in Redis."""
    return f"test-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def topic_prefix():
    """What the topics, groups and subjects of this test begin with."""
    return f"test-{uuid.uuid4().hex[:12]}-"


@pytest.fixture
def private_service():
    """Start a server for this test alone: `private_service(Kafka, heap_mb=256)`. It may be killed; it ends with the test."""
    with ExitStack() as stack:

        def start(kind, **options):
            try:
                return stack.enter_context(private(kind, **options))
            except ServiceUnavailable as error:
                unavailable(error.service, error.reason)

        yield start


@pytest.fixture
def private_postgres(private_service):
    return private_service(Postgres)


@pytest.fixture
def private_redis(private_service):
    return private_service(Redis)


@pytest.fixture
def private_redis_sentinel(private_service):
    return private_service(RedisSentinel)


@pytest.fixture
def private_redis_cluster(private_service):
    return private_service(RedisCluster)


@pytest.fixture
def private_kafka(private_service):
    return private_service(Kafka)
