"""Object storage on a real S3 server: its verbs, its faults and errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from threading import Barrier, Thread

import pytest

from asof.connections.object_storage import ObjectStorage, StorageSettings
from asof.connections.object_storage.errors import ObjectChanged, StorageOutage
from asof.errors import ConfigError, StorageError
from tests.services import S3, S3Proxy
from tests.services.s3 import REGION

pytestmark = pytest.mark.integration


@pytest.fixture
def storage(s3_proxy: S3Proxy) -> ObjectStorage:
    """Object storage through a proxy, and less patient than by default."""
    return ObjectStorage(StorageSettings(**{**s3_proxy.storage, "retries": 3, "retry_s": 20, "timeout_s": 5}))


def test_an_object_is_read_back_whole_and_in_ranges(storage: ObjectStorage, bucket: str) -> None:
    storage.write(f"{bucket}/a/b", b"0123456789")

    assert storage.read(f"{bucket}/a/b") == b"0123456789"
    assert storage.read(f"{bucket}/a/b", start=2, length=3) == b"234"
    assert storage.read(f"{bucket}/a/b", start=7) == b"789"
    assert storage.read(f"{bucket}/a/c") is None and storage.head(f"{bucket}/a/c") is None
    found = storage.head(f"{bucket}/a/b")
    assert found is not None and found.size == 10


def test_a_large_object_is_uploaded_in_pieces_and_appears_as_a_whole(storage: ObjectStorage, bucket: str) -> None:
    piece = bytes(range(256)) * 4096
    storage.write(f"{bucket}/large", (piece for _ in range(12)))

    assert storage.read(f"{bucket}/large") == piece * 12


def test_of_an_upload_that_breaks_off_nothing_is_seen(storage: ObjectStorage, bucket: str) -> None:
    def broken() -> Iterator[bytes]:
        for _ in range(3):
            yield b"x" * (6 << 20)
        raise StorageError("the source broke off")

    with pytest.raises(StorageError, match="broke off"):
        storage.write(f"{bucket}/half", broken())

    assert storage.head(f"{bucket}/half") is None


def test_an_object_is_created_only_once_and_replaced_only_unchanged(storage: ObjectStorage, bucket: str) -> None:
    assert storage.create(f"{bucket}/v1", b"one")
    assert not storage.create(f"{bucket}/v1", b"two")
    found = storage.read_with_version(f"{bucket}/v1")
    assert found is not None and found[0] == b"one"

    assert storage.replace(f"{bucket}/v1", b"three", version=found[1])
    assert not storage.replace(f"{bucket}/v1", b"four", version=found[1])
    assert not storage.replace(f"{bucket}/v2", b"four", version=found[1])
    assert storage.read(f"{bucket}/v1") == b"three"
    with pytest.raises(ObjectChanged, match="changed meanwhile"):
        storage.read(f"{bucket}/v1", etag=found[1])


def test_of_writers_at_once_one_creates_the_object(storage: ObjectStorage, bucket: str) -> None:
    start, made = Barrier(4), [False] * 4

    def create(number: int) -> None:
        start.wait()
        made[number] = storage.create(f"{bucket}/one", b"%d" % number)

    threads = [Thread(target=create, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(made) == 1
    assert storage.read(f"{bucket}/one") == b"%d" % made.index(True)


def test_objects_are_listed_ascending_and_deleted(storage: ObjectStorage, bucket: str) -> None:
    for name in ("d/2", "d/10", "d/1", "dd/1", "d/sub/x y", "e"):
        storage.write(f"{bucket}/{name}", b"")

    below = [each.address for each in storage.objects_below(f"{bucket}/d")]
    assert below == [f"{bucket}/d/{name}" for name in ("1", "10", "2", "sub/x y")]
    assert [each.address for each in storage.objects_below(f"{bucket}/d", after=below[1])] == below[2:]
    assert storage.folders(bucket) == ["d", "dd"] and storage.folders(f"{bucket}/d") == ["sub"]

    storage.delete([*below, f"{bucket}/never"])
    assert [each.address for each in storage.objects_below(bucket)] == [f"{bucket}/dd/1", f"{bucket}/e"]


FAULTS: dict[str, Callable[[S3Proxy], None]] = {
    "the store asks to slow down": lambda proxy: setattr(proxy, "refuse", 2),
    "the connection is lost before the response": lambda proxy: setattr(proxy, "drop", 1),
    "responses are slow": lambda proxy: setattr(proxy, "delay_s", 0.2),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_reads_and_writes_survive(fault: str, storage: ObjectStorage, s3_proxy: S3Proxy, bucket: str) -> None:
    FAULTS[fault](s3_proxy)
    storage.write(f"{bucket}/a", b"one")
    FAULTS[fault](s3_proxy)
    assert storage.read(f"{bucket}/a") == b"one"
    FAULTS[fault](s3_proxy)
    assert [each.size for each in storage.objects_below(bucket)] == [3]


def test_a_store_that_stays_busy_is_an_error_that_may_pass(s3_proxy: S3Proxy, bucket: str) -> None:
    storage = ObjectStorage(StorageSettings(**{**s3_proxy.storage, "retries": 1}))
    s3_proxy.refuse = 100

    with pytest.raises(StorageOutage, match="asks to slow down") as caught:
        storage.read(f"{bucket}/a")
    assert caught.value.may_pass and len(s3_proxy.requests) == 2


def test_a_response_that_does_not_come_is_an_error_in_bounded_time(s3_proxy: S3Proxy, bucket: str) -> None:
    storage = ObjectStorage(StorageSettings(**{**s3_proxy.storage, "retries": 0, "timeout_s": 0.3}))
    s3_proxy.delay_s = 2

    with pytest.raises(StorageOutage, match="no response in time"):
        storage.read(f"{bucket}/a")


@pytest.mark.parametrize("verb", ["read", "head", "list", "write", "create"])
def test_a_bucket_that_is_not_there_is_named(verb: str, storage: ObjectStorage) -> None:
    address = "s3://no-such-bucket/a"
    calls: dict[str, Callable[[], object]] = {
        "read": lambda: storage.read(address), "head": lambda: storage.head(address),
        "list": lambda: list(storage.objects_below(address)), "write": lambda: storage.write(address, b""),
        "create": lambda: storage.create(address, b""),
    }  # fmt: skip
    if verb == "head":
        assert calls[verb]() is None  # S3 says no more than that to HEAD
        return
    with pytest.raises(StorageError, match="s3://no-such-bucket/a: there is no such bucket"):
        calls[verb]()


def test_a_server_that_is_not_there_is_named(s3: S3) -> None:
    settings = {**s3.storage, "endpoint": "http://127.0.0.1:9", "retries": 1}
    with pytest.raises(StorageOutage, match="cannot be reached"):
        ObjectStorage(StorageSettings(**settings)).read("s3://shop/a")


def test_an_endpoint_without_tls_is_refused_unless_it_is_allowed(s3: S3, bucket: str) -> None:
    with pytest.raises(ConfigError, match="without TLS"):
        ObjectStorage(StorageSettings(**{**s3.storage, "allow_http": False})).read(f"{bucket}/a")


def test_wrong_credentials_are_said_to_be_wrong(private_service: Callable[..., S3]) -> None:
    import boto3

    server = private_service(S3, checks_signatures=True)
    given = {"endpoint_url": server.url, "region_name": REGION, "aws_access_key_id": "x", "aws_secret_access_key": "x"}
    iam = boto3.client("iam", **given)
    iam.create_user(UserName="ana")
    key = iam.create_access_key(UserName="ana")["AccessKey"]
    iam.put_user_policy(
        UserName="ana", PolicyName="all",
        PolicyDocument='{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}]}',
    )  # fmt: skip
    right = {
        **server.storage, "retries": 0, "access_key_id": key["AccessKeyId"],
        "secret_access_key": key["SecretAccessKey"],
    }  # fmt: skip
    boto3.client(
        "s3", **{**given, "aws_access_key_id": key["AccessKeyId"], "aws_secret_access_key": key["SecretAccessKey"]}
    ).create_bucket(Bucket="shop")

    ObjectStorage(StorageSettings(**right)).write("s3://shop/a", b"one")
    for wrong, said in (
        ({"secret_access_key": "no"}, "the secret key is wrong"),
        ({"access_key_id": "no"}, "the access key is unknown"),
    ):
        with pytest.raises(StorageError, match=said) as caught:
            ObjectStorage(StorageSettings(**{**right, **wrong})).read("s3://shop/a")
        assert key["SecretAccessKey"] not in str(caught.value)
