"""Fixtures: one gateway for the suite, and clients that end with the test that asked for them."""

import os

import pytest
from cent import AsyncClient

from clients import Clients, codecs
from gateway import API_KEY, Gateway


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    if "GATEWAY_BIN" not in os.environ:
        pytest.exit("GATEWAY_BIN must name the gateway binary, `make test-python` sets it", 2)
    running = Gateway(tmp_path_factory.mktemp("gateway"))
    running.wait_until_ready()
    yield running
    running.stop()


@pytest.fixture
async def api(gateway):
    client = AsyncClient(gateway.api_url, API_KEY)
    yield client
    await client.close()


@pytest.fixture(params=codecs, ids=lambda codec: codec.name)
async def clients(gateway, request):
    """Makes clients; a test that uses it runs for JSON and for Protobuf."""
    made = Clients(gateway, request.param)
    yield made
    await made.close()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    """Shows the end of the gateway's log with a test that failed."""
    report = (yield).get_result()
    running = getattr(item, "funcargs", {}).get("gateway")
    if report.failed and running is not None:
        report.sections.append(("gateway log", "\n".join(running.log.splitlines()[-50:])))
