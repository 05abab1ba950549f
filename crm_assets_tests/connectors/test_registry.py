from __future__ import annotations

import pytest

from crm_assets.connectors import registry
from crm_assets.connectors.base import ConnectionConfig
from crm_assets.core.errors import ConfigurationError


def test_an_unknown_connector_lists_the_known_ones() -> None:
    config = ConnectionConfig("crm", "salesfarce", "http://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match=r"salesfarce.*salesforce"):
        registry.make(config, None)  # type: ignore[arg-type]
