"""The value that holds all settings."""

from __future__ import annotations

import dataclasses

from twisted.trial.unittest import SynchronousTestCase

from zktwisted.config import Key, Kind, ServerConfig
from zktwisted.config.fields import parse, render
from zktwisted.errors import ConfigError


def key_of(attribute: str) -> Key:
    return next(key for key in ServerConfig.keys() if key.attribute == attribute)


class ServerConfigTests(SynchronousTestCase):
    def test_defaults(self) -> None:
        """Without a file the defaults are those of a Java server with an empty file."""
        config = ServerConfig()
        self.assertEqual(config.tick_time, 3000)
        self.assertEqual((config.min_session_timeout, config.max_session_timeout), (6000, 60000))
        self.assertEqual(config.max_client_cnxns, 60)
        self.assertEqual(config.jute_max_buffer, 1048575)
        self.assertEqual(config.jute_max_buffer_extra_size, 1048575)
        self.assertIsNone(config.client_port)
        self.assertEqual(config.backlog, 50)

    def test_derived(self) -> None:
        """What follows from other settings follows them, unless it is said itself."""
        config = ServerConfig(data_dir="/d", tick_time=100, flush_delay=9, jute_max_buffer=5000)
        self.assertEqual((config.min_session_timeout, config.max_session_timeout), (200, 2000))
        self.assertEqual((config.data_log_dir, config.log_dir), ("/d", "/d/version-2"))
        self.assertEqual(config.max_write_queue_poll_time, 3)
        self.assertEqual(config.jute_max_buffer_extra_size, 5000)
        other = ServerConfig(data_dir="/d", data_log_dir="/l", min_session_timeout=1)
        self.assertEqual((other.snapshot_dir, other.log_dir), ("/d/version-2", "/l/version-2"))
        self.assertEqual(other.min_session_timeout, 1)

    def test_replace(self) -> None:
        """A changed copy derives again what was derived, and keeps what was said."""
        config = ServerConfig(tick_time=1000, max_session_timeout=5000)
        changed = config.replace(tick_time=500)
        self.assertEqual((changed.min_session_timeout, changed.max_session_timeout), (1000, 5000))
        self.assertEqual(config.replace(), config)

    def test_frozen(self) -> None:
        """It is a value: it cannot be changed, and equal ones are equal."""
        config = ServerConfig(data_dir="/d")
        self.assertRaises(dataclasses.FrozenInstanceError, setattr, config, "data_dir", "/e")
        self.assertEqual(config, ServerConfig(data_dir="/d"))
        self.assertEqual(hash(config), hash(ServerConfig(data_dir="/d")))

    def test_contradictions(self) -> None:
        """Settings that exclude each other are refused with the key that is wrong."""
        for settings, key in (
            ({"tick_time": 0}, "tickTime"),
            ({"tick_time": -5, "min_session_timeout": 1, "max_session_timeout": 2}, "tickTime"),
            ({"min_session_timeout": 9, "max_session_timeout": 8}, "minSessionTimeout"),
            ({"client_port_address": "127.0.0.1"}, "clientPortAddress"),
            ({"client_port": 65536}, "clientPort"),
            ({"enforce_auth_enabled": True}, "enforce.auth.enabled"),
            ({"profile": "safe"}, "profile"),
            (
                {"require_client_auth_scheme": ("x509",), "session_require_client_sasl_auth": True},
                "requireClientAuthScheme",
            ),
            (
                {
                    "require_client_auth_scheme": ("sasl",),
                    "enforce_auth_enabled": True,
                    "enforce_auth_schemes": ("sasl", "digest"),
                },
                "requireClientAuthScheme",
            ),
            ({"quorum_auth_learner_require_sasl": True}, "quorum.auth.learnerRequireSasl"),
            ({"quorum_auth_server_require_sasl": True}, "quorum.auth.serverRequireSasl"),
            (
                {"quorum_auth_enable_sasl": True, "quorum_auth_server_require_sasl": True},
                "quorum.auth.serverRequireSasl",
            ),
        ):
            error = self.assertRaises(ConfigError, ServerConfig, **settings)
            self.assertEqual(error.key, key)
            self.assertTrue(error.remedy)

    def test_enforced_schemes(self) -> None:
        """Three settings demand that clients authenticate; they may say the same."""
        everything = {
            "require_client_auth_scheme": ("sasl",),
            "session_require_client_sasl_auth": True,
            "enforce_auth_enabled": True,
            "enforce_auth_schemes": ("sasl",),
        }
        for settings in (
            everything,
            {"require_client_auth_scheme": ("sasl",)},
            # Schemes alone demand nothing.
            {"require_client_auth_scheme": ("sasl",), "enforce_auth_schemes": ("digest",)},
        ):
            self.assertEqual(ServerConfig(**settings).enforced_schemes, ("sasl",))  # type: ignore[arg-type]
        self.assertEqual(ServerConfig(enforce_auth_schemes=("sasl",)).enforced_schemes, ())

    def test_four_letter_words(self) -> None:
        """The whitelist allows what it names; srvr is always allowed, isro in read-only mode."""
        config = ServerConfig(four_letter_words_whitelist=("stat",))
        allowed = [word for word in ("stat", "srvr", "isro", "ruok") if config.allows_four_letter_word(word)]
        self.assertEqual(allowed, ["stat", "srvr"])
        self.assertTrue(config.replace(readonlymode_enabled=True).allows_four_letter_word("isro"))
        self.assertTrue(ServerConfig(four_letter_words_whitelist=("*",)).allows_four_letter_word("dump"))
        self.assertFalse(ServerConfig().allows_four_letter_word("stat"))

    def test_session_timeout(self) -> None:
        """A timeout is granted within the limits."""
        config = ServerConfig(min_session_timeout=10, max_session_timeout=20)
        self.assertEqual([config.clamp_session_timeout(wish) for wish in (-1, 15, 99)], [10, 15, 20])


class KeyTests(SynchronousTestCase):
    def test_every_key_is_described(self) -> None:
        """Every key has a field, a sentence and a default that its own spelling gives back."""
        names = [key.name for key in ServerConfig.keys()]
        self.assertEqual(len(names), len(set(names)))
        self.assertGreater(len(names), 100)
        for key in ServerConfig.keys():
            self.assertTrue(key.doc.endswith("."), key.name)
            self.assertIn(key.attribute, {field.name for field in dataclasses.fields(ServerConfig)})
            text = render(key, key.default)
            if text:
                self.assertEqual(parse(key, text), key.default, key.name)

    def test_spellings(self) -> None:
        """A key may be written as in the file or as the Java property."""
        self.assertEqual(key_of("snap_count").spellings, ("snapCount", "zookeeper.snapCount"))
        self.assertIn("jute.maxbuffer", key_of("jute_max_buffer").spellings)
        self.assertIn("zookeeper.jute.maxbuffer", key_of("jute_max_buffer").spellings)

    def test_kinds(self) -> None:
        """Each kind reads what Java reads and refuses the rest."""
        good: dict[Kind, list[tuple[str, object]]] = {
            Kind.FLAG: [("TRUE", True), ("false", False)],
            Kind.YES_NO: [("yes", True), ("no", False)],
            Kind.INT: [("+5", 5), ("-5", -5), ("007", 7), ("2147483647", 2147483647)],
            Kind.LONG: [("-9223372036854775808", -(2**63))],
            Kind.PORT: [("0", 0), ("65535", 65535)],
            Kind.FLOAT: [("1e-3", 0.001)],
            Kind.WORDS: [(" a, b ,,", ("a", "b")), ("", ())],
            Kind.HOURS: [("2", 7_200_000), ("90s", 90_000), ("5 ms", 5), ("1D", 86_400_000), ("3m", 180_000)],
        }
        bad = {
            Kind.FLAG: ["yes", ""],
            Kind.YES_NO: ["true", "YES"],
            Kind.INT: ["", "1_0", "0xg", "1.0", " 1", "2147483648", "\u0663"],
            Kind.LONG: ["9223372036854775808"],
            Kind.PORT: ["65536", "-1", "x"],
            Kind.FLOAT: ["nan", "inf", "x"],
            Kind.HOURS: ["-1", "1w", "h"],
        }
        by_kind = {key.kind: key for key in ServerConfig.keys()}
        for kind, examples in good.items():
            for text, value in examples:
                self.assertEqual(parse(by_kind[kind], text), value, (kind, text))
        for kind, texts in bad.items():
            for text in texts:
                self.assertRaises(ValueError, parse, by_kind[kind], text)

    def test_hexadecimal(self) -> None:
        """Properties may be written in hexadecimal, as Java decodes them; keys of the file proper may not."""
        self.assertEqual(parse(key_of("jute_max_buffer"), "0x9fffff"), 0x9FFFFF)
        self.assertEqual(parse(key_of("large_request_threshold"), "-0X1"), -1)
        self.assertRaises(ValueError, parse, key_of("jute_max_buffer"), "0x80000000")
        self.assertRaises(ValueError, parse, key_of("tick_time"), "0x10")

    def test_render(self) -> None:
        """Every setting can be written down again as zoo.cfg has it."""
        config = ServerConfig(data_dir="/d", force_sync=False, autopurge_purge_interval_ms=90_000)
        lines = {key.name: text for key, text in config.render()}
        self.assertEqual(lines["dataDir"], "/d")
        self.assertEqual(lines["forceSync"], "no")
        self.assertEqual(lines["autopurge.purgeInterval"], "90000ms")
        self.assertEqual(lines["4lw.commands.whitelist"], "srvr")
        self.assertEqual(lines["digest.enabled"], "true")
        self.assertEqual(lines["clientPort"], "")
