"""A store that speaks S3, of its own for each test: moto's server in a child process, on the loopback."""

import subprocess
import sys
import uuid
from urllib.request import Request, urlopen

import pytest

from search.storage.bucket import Bucket, client
from search.storage.own_disk import OWN_DISK

SERVER = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()  # until the tests have ended, however they do
"""


@pytest.fixture(scope="session")
def endpoint():
    """HOST:PORT of the server."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    assert process.stdin is not None
    yield f"127.0.0.1:{int(process.stdout.readline())}"
    process.stdin.close()
    process.wait()


@pytest.fixture
def address(endpoint, monkeypatch, tmp_path):
    """Makes the address of what is below a prefix in a bucket that is there and empty."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        OWN_DISK: str(tmp_path / "own"),
    }.items():
        monkeypatch.setenv(name, value)
    name = f"bucket-{uuid.uuid4().hex[:12]}"
    client(f"http://{endpoint}", None).create_bucket(Bucket=name)
    return lambda prefix="": f"s3://{name}/{prefix}?endpoint_override={endpoint}&scheme=http"


@pytest.fixture
def bucket(address):
    return Bucket.parse(address())


@pytest.fixture
def locked_out(endpoint):
    """From now on the store asks who it is, and knows nobody."""

    def ask(requests: float) -> None:
        headers = {"Content-Type": "text/plain"}
        urlopen(Request(f"http://{endpoint}/moto-api/reset-auth", str(requests).encode(), headers)).close()

    yield lambda: ask(0)
    ask(float("inf"))
