"""`docker-compose.yml` offers the servers of the tests, at exact versions, to this machine alone."""

import re
from pathlib import Path

import pytest
import yaml

from tests.services.__main__ import BUCKET, KINDS, ON_REQUEST, PORTS
from tests.services.jars import APICURIO_VERSION, KAFKA_VERSION

COMPOSE = yaml.safe_load((Path(__file__).parents[2] / "docker-compose.yml").read_text())
SERVICES = COMPOSE["services"]


def test_it_has_the_servers_of_the_tests():
    # Sail has no image, it comes with the tests' packages.
    assert SERVICES.keys() == KINDS.keys() - ON_REQUEST - {"sail"}


def test_versions_are_exact_and_those_of_the_tests():
    images = {name: service["image"] for name, service in SERVICES.items()}

    assert all(re.fullmatch(r"[a-z/-]+:\d+\.\d+[\w.]*", image) for image in images.values())
    assert images["kafka"].endswith(f":{KAFKA_VERSION}")
    assert images["schema-registry"].endswith(f":{APICURIO_VERSION}")


@pytest.mark.parametrize("name", SERVICES)
def test_nobody_else_reaches_them(name):
    ports = SERVICES[name]["ports"]

    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
    if name in PORTS:
        assert ports[0].split(":")[1] == str(PORTS[name])


def test_its_volumes_are_declared():
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())}

    assert used == COMPOSE["volumes"].keys()


def test_the_page_about_the_demo_has_their_addresses():
    page = (Path(__file__).parents[2] / "docs" / "how-to" / "real-stack.md").read_text()

    assert f"--postgres postgresql://asof:asof-secret@127.0.0.1:{PORTS['postgres']}/asof" in page
    assert f"--kafka 127.0.0.1:{PORTS['kafka']}" in page
    assert f"--redis redis://asof:asof-secret@127.0.0.1:{PORTS['redis']}/0" in page
    assert f"--storage s3://{BUCKET}/demo --storage-endpoint http://127.0.0.1:{PORTS['s3']}" in page
    assert SERVICES["postgres"]["environment"] | {"POSTGRES_INITDB_ARGS": ""} == {
        "POSTGRES_USER": "asof", "POSTGRES_PASSWORD": "asof-secret", "POSTGRES_DB": "asof", "POSTGRES_INITDB_ARGS": "",
    }  # fmt: skip
    assert SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"] == f"PLAINTEXT://127.0.0.1:{PORTS['kafka']}"
