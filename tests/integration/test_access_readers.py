# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of access where it may come late: on readers, which follow the primary, and beside roles that are held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._access import fence
from tests.integration.access import bootstrapped, expire, gets_in, grant, person, refusal, revoke, sweep
from tests.integration.product import ask, run_in, succeeded
from tests.rig import Server, ShapedServer

Shaped = Callable[..., ShapedServer]
NUMBER = "SELECT count(*) FROM alpha_s.t_plain"


@pytest.fixture
def primary(shaped_once: Shaped, major: int, shape: str) -> ShapedServer:
    """Return a server on which the connector may end sessions, as its platform lets it."""
    server = shaped_once(major=major, shape=shape)
    if not ask(server, "SELECT FROM pg_roles WHERE rolname = 'apono_connector'"):
        bootstrapped(server)
        run_in(server, "postgres", "GRANT pg_signal_backend TO apono_connector")
    return server


@pytest.fixture
def reader(primary: ShapedServer) -> Iterator[Server]:
    """Return its hot standby."""
    with primary.standby() as standby:
        yield standby


def endpoint(server: Server) -> str:
    """As the option wants it."""
    return f"{server.host}:{server.port}"


def test_after_a_revoke_nobody_is_or_gets_in_on_a_reader(primary: ShapedServer, reader: Server) -> None:
    said = succeeded(grant(primary, "R-1", "rea@example.org"))
    reader.wait_for(primary)
    with person(reader, said) as session:
        assert refusal(session, NUMBER) is None
        assert succeeded(revoke(primary, "R-1", readers=[endpoint(reader)]))["fenced"] == [said["login"]]
        assert refusal(session, "SELECT 1") == "57P01"
    assert not gets_in(reader, said)


def test_after_a_sweep_nobody_is_or_gets_in_on_a_reader(primary: ShapedServer, reader: Server) -> None:
    said = succeeded(grant(primary, "R-2", "rea@example.org"))
    reader.wait_for(primary)
    expire(primary, "R-2")
    with person(reader, said) as session:
        assert succeeded(sweep(primary, readers=[endpoint(reader)]))["ended"] == ["R-2"]
        assert refusal(session, "SELECT 1") == "57P01"
    assert not gets_in(reader, said)


def test_a_reader_that_has_not_heard_of_the_end_keeps_it_unproven(
    primary: ShapedServer, reader: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = succeeded(grant(primary, "R-3", "rea@example.org"))
    reader.wait_for(primary)
    monkeypatch.setattr(fence, "PATIENCE", 0.5)
    with person(reader, said) as session:
        ask(reader, "SELECT pg_wal_replay_pause()")
        late = revoke(primary, "R-3", readers=[endpoint(reader)])
        assert f"reader {endpoint(reader)}: it has not replayed the change" in late["msg"]
        assert not gets_in(primary, said), "where it is known, it is over"
        assert gets_in(reader, said), "or nothing would have been unproven"
        ask(reader, "SELECT pg_wal_replay_resume()")
        monkeypatch.undo()
        assert succeeded(revoke(primary, "R-3", readers=[endpoint(reader)]))["revoked"] == ["R-3"]
        assert refusal(session, "SELECT 1") == "57P01"
    assert not gets_in(reader, said)


def test_a_reader_that_is_down_is_named_and_the_next_run_goes_on(primary: ShapedServer, reader: Server) -> None:
    said = succeeded(grant(primary, "R-4", "rea@example.org"))
    reader.wait_for(primary)
    with person(reader, said) as session:
        failed = revoke(primary, "R-4", readers=["localhost:1", endpoint(reader)])
        assert "reader localhost:1: " in failed["msg"]
        assert refusal(session, "SELECT 1") == "57P01", "the other one is not given up for it"
    assert succeeded(sweep(primary, readers=[endpoint(reader)]))["ended"] == ["R-4"]


@pytest.mark.parametrize("why", ["down", "late"])
@pytest.mark.parametrize("options", [{}, {"gone": ["rea@example.org"]}, {"cleanup_after_days": 0}])
def test_every_sweep_comes_back_to_a_reader_until_nobody_is_in_there(
    primary: ShapedServer, reader: Server, monkeypatch: pytest.MonkeyPatch, why: str, options: dict[str, Any]
) -> None:
    said = succeeded(grant(primary, f"R-5 {why} {options}", "rea@example.org"))
    reader.wait_for(primary)
    expire(primary, f"R-5 {why} {options}")
    readers = [endpoint(reader)] if why == "late" else ["localhost:1"]
    monkeypatch.setattr(fence, "PATIENCE", 0.5)
    with person(reader, said) as session:
        if why == "late":
            ask(reader, "SELECT pg_wal_replay_pause()")
        for _time in range(2):
            swept = sweep(primary, readers=readers, **options)
            assert f"reader {readers[0]}: " in swept["msg"]
            assert swept["dropped"] == []
        assert not gets_in(primary, said)
        if why == "late":
            ask(reader, "SELECT pg_wal_replay_resume()")
        monkeypatch.undo()
        succeeded(sweep(primary, readers=[endpoint(reader)], **options))
        assert refusal(session, "SELECT 1") == "57P01"
    swept = succeeded(sweep(primary, readers=[endpoint(reader)], **options))
    assert swept["ended"] == []


def test_a_sweep_that_is_told_of_a_reader_ends_what_others_left_there(primary: ShapedServer, reader: Server) -> None:
    said = succeeded(grant(primary, "R-6", "rea@example.org"))
    reader.wait_for(primary)
    with person(reader, said) as session:
        succeeded(revoke(primary, "R-6"))
        assert refusal(session, "SELECT 1") is None
        assert "reader localhost:1: " in sweep(primary, readers=["localhost:1"])["msg"]
        succeeded(sweep(primary, readers=[endpoint(reader)]))
        assert refusal(session, "SELECT 1") == "57P01"
    succeeded(sweep(primary, readers=["localhost:1"]))
    again = succeeded(grant(primary, "R-7", "rea@example.org"))
    assert gets_in(primary, again)
    succeeded(revoke(primary, "R-7", readers=[endpoint(reader)]))


@pytest.mark.parametrize("signals", [True, False])
def test_a_session_that_nobody_may_end_keeps_no_other(shaped: Shaped, shape: str, signals: bool) -> None:
    """Up to 15 who is put into a login might have taken its rights on; before 15 everybody may put anybody there."""
    server = shaped(major=15, shape=shape)
    bootstrapped(server)
    run_in(
        server,
        "postgres",
        f"{'GRANT' if signals else 'REVOKE'} pg_signal_backend {'TO' if signals else 'FROM'} apono_connector",
    )
    ada, bob = [succeeded(grant(server, request, f"{request}@example.org")) for request in ("ada", "bob")]
    (superuser,) = ask(server, "SELECT quote_ident(current_user)")[0]
    run_in(server, "postgres", f"GRANT {ada['login']} TO {superuser}")
    expire(server, "ada", "bob")
    with server.connect() as theirs, person(server, ada) as first, person(server, bob) as second:
        swept = sweep(server)
        assert "sessions could not be ended: " in swept["msg"]
        assert [refusal(session, "SELECT 1") for session in (first, second)] == ["57P01", "57P01"]
        assert refusal(theirs, "SELECT 1") is None
    assert succeeded(sweep(server))["ended"] == ["ada", "bob"]


def test_a_role_that_somebody_holds_stops_no_other_and_fails_the_sweep(primary: ShapedServer) -> None:
    held, free = [succeeded(grant(primary, request, f"{request}@example.org")) for request in ("held", "free")]
    expire(primary, "held", "free")
    impatient = {"connect_params": {"options": "-c lock_timeout=50ms"}}
    with primary.connect(autocommit=False) as dba, person(primary, held) as session, person(primary, free) as other:
        dba.execute(f"ALTER ROLE {held['login']} CONNECTION LIMIT 7".encode())
        swept = sweep(primary, **impatient)
        assert "access that should be gone is not proven gone: held: canceling statement due to lock" in swept["msg"]
        assert swept["ended"] == ["free"]
        assert not gets_in(primary, free)
        assert refusal(other, "SELECT 1") == "57P01"
        assert refusal(session, "SELECT 1") == "57P01", "what can be taken away is"
        with person(primary, held) as again:
            assert refusal(again, NUMBER) == "42501"
    assert succeeded(sweep(primary))["fenced"] == [held["login"]]
    assert not gets_in(primary, held)
