"""
Settings for test servers, as a zoo.cfg has them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from zktwisted.config import ServerConfig

__all__ = ["settings_of"]


def settings_of(lines: Iterable[str], properties: Mapping[str, str] | None = None) -> dict[str, Any]:
    """
    Turn lines of a zoo.cfg into settings by their names in L{ServerConfig}; where data are does not matter.

    @param properties: Java system properties; lines win over them.

    @raise zktwisted.errors.ConfigError: a setting cannot work.
    """
    config = ServerConfig.from_text("\n".join(["dataDir=.", *lines]), properties=properties)
    plain = ServerConfig(data_dir=config.data_dir)
    settings = {
        key.attribute: getattr(config, key.attribute)
        for key in ServerConfig.keys()
        if getattr(config, key.attribute) != getattr(plain, key.attribute)
    }
    settings["properties"] = config.properties
    return settings
