"""One server for the whole run; every test looks only at calls of its own."""

import os
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))

from server import Convoke  # noqa: E402


@pytest.fixture(scope="session")
def convoke(tmp_path_factory):
    server = Convoke(tmp_path_factory.mktemp("convoke"))
    # Read when the SDKs' HTTP libraries are imported, so before any test is.
    os.environ["SSL_CERT_FILE"] = os.environ["REQUESTS_CA_BUNDLE"] = server.ca
    server.start()
    yield server
    assert "convoke_panics_total 0" in server.metrics()
    assert server.stop() == 0, (server.folder / "server.log").read_text()[-4000:]


@pytest.fixture
def own(tmp_path):
    """A server of the test's own, for what must not happen to the shared one."""
    server = Convoke(tmp_path)
    yield server
    server.stop()
