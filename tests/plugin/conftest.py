"""The host models of the plugin tests: one parametrisation for all files."""

from __future__ import annotations

import pytest

from tests.plugin.hosts import HOSTS, Host


@pytest.fixture(params=HOSTS, ids=lambda host: host.name)
def host(request: pytest.FixtureRequest) -> Host:
    """One host model; a test with this argument runs once for each of HOSTS."""
    made: Host = request.param
    return made
