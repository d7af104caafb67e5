"""
The configuration of a server: every key of C{zoo.cfg} once, and what may be asked of it.

- L{ServerConfig}: one frozen value, one field a key.
- L{Ensemble}, L{Member}, L{Address}: what the C{server.N}, C{group.N} and C{weight.N} lines say.
- L{Note}: a remark on a configuration that works nevertheless.
- L{check}: the report behind C{twist zookeeper --check-config} (import C{zktwisted.config.check}).

Pure apart from reading the files it is asked to read.  It knows nothing of sockets, the tree or Twisted.
"""

from __future__ import annotations

from zktwisted.config.ensemble import Address, Ensemble, Member
from zktwisted.config.fields import Key, Kind, Section
from zktwisted.config.server import Note, ServerConfig

__all__ = ["Address", "Ensemble", "Key", "Kind", "Member", "Note", "Section", "ServerConfig"]
