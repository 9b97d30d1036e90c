"""The host models that the plugin is tested with, one parametrisation for all files."""

from __future__ import annotations

import pytest

from tests.plugin.hosts import HOSTS, Host


@pytest.fixture(params=HOSTS, ids=lambda host: host.name)
def host(request: pytest.FixtureRequest) -> Host:
    """One kind of model; every test with this argument runs once for each of HOSTS."""
    made: Host = request.param
    return made
