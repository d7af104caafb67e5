"""Our client and ensembles: servers without a quorum, and members that come and go."""

from __future__ import annotations

import pytest

from tests.client.stories import Told
from tests.interop.clients import servers
from tests.interop.clients.ours import Zoo
from tests.interop.conftest import MakeEnsemble
from tests.interop.ensembles import JAVA, OURS, until
from tests.interop.process import HOST, four_letter_word
from zktwisted.client import State
from zktwisted.errors import BadVersionError, ConnectionLossError, NotReadOnlyError, ReconfigDisabledError


@pytest.mark.parametrize("kind", [OURS, JAVA])
def test_read_only(kind: str, make_ensemble: MakeEnsemble) -> None:
    """A client that may reads where there is no quorum, and has a session of its own as soon as there is one."""
    config = {"localSessionsEnabled": "true", "localSessionsUpgradingEnabled": "true"}
    ensemble = make_ensemble(
        {1: kind, 2: kind, 3: kind}, config=config, properties={"readonlymode.enabled": "true"}
    )
    ensemble.start()

    async def program(zoo: Zoo) -> None:
        first = await zoo.connected()
        await first.create("/a", b"kept")
        await first.sync()
        await first.close()
        ensemble.kill9(1, 2)
        until(lambda: four_letter_word(ensemble[3].port, b"isro") == b"ro", lambda: "server 3 serves alone")
        client = await zoo.connected(read_only=True, session_timeout=20.0)
        assert client.state is State.CONNECTED_READ_ONLY
        session, states, told = client.session_id, Told(), Told()
        client.listen(states)
        assert (await client.get("/a", told)).data == b"kept"
        with pytest.raises(NotReadOnlyError):
            await client.set("/a", b"lost")
        ensemble.start(1, wait=False)
        await states.until(lambda values: State.CONNECTED in values)
        assert client.session_id != session
        while not told.values:
            try:
                await client.set("/a", b"new")
                await client.sync()
            except ConnectionLossError:
                continue
        await client.create("/mine", ephemeral=True)
        assert await client.get_ephemerals() == ["/mine"]

    Zoo(ensemble.hosts()).run(program)
    ensemble.wait()


def test_reconfig(make_ensemble: MakeEnsemble) -> None:
    """Members of an ensemble of Java's leave and come back, and whoever watches the configuration is told."""
    config = {"reconfigEnabled": "true", "skipACL": "yes"}
    ensemble = make_ensemble({1: JAVA, 2: JAVA, 3: JAVA}, config=config)
    ensemble.start()

    async def program(zoo: Zoo) -> None:
        client = await zoo.connected(chroot="/app", session_timeout=30.0)
        told = Told()
        data, stat = await client.get_config(told)
        assert data is not None
        members = [line for line in data.decode().splitlines() if line.startswith("server.")]
        assert len(members) == 3
        leader = ensemble.leader()
        other = next(sid for sid in (1, 2, 3) if sid != leader)
        without = await client.reconfig(leaving=str(other))
        assert without.data is not None
        assert f"server.{other}=" not in without.data.decode()
        assert without.stat.mzxid > stat.mzxid
        await told.until(lambda values: values)
        with pytest.raises(BadVersionError):
            await client.reconfig(leaving=str(leader), from_config=1)
        member = ensemble[other]
        back = f"server.{other}={HOST}:{member.quorum_port}:{member.election_port};{HOST}:{member.port}"
        again = await client.reconfig(joining=back)
        assert again.data is not None
        assert f"server.{other}=" in again.data.decode()
        assert (await client.get_config()).data == again.data

    Zoo(ensemble.hosts()).run(program)


def test_reconfig_is_refused(make_ensemble: MakeEnsemble) -> None:
    """Where members cannot be changed the error says so."""
    ensemble = make_ensemble({1: OURS, 2: OURS, 3: servers.OURS})
    ensemble.start()

    async def program(zoo: Zoo) -> None:
        client = await zoo.connected()
        with pytest.raises(ReconfigDisabledError):
            await client.reconfig(leaving="3")

    Zoo(ensemble.hosts()).run(program)
