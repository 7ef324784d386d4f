# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is taken for a wrong password, in any language, and what is not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest import mock

import psycopg
import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import DatabaseRefused, ServerUnreachable
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import session as sessions
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation import guards, probe
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.values import Answer

BEGIN = 'connection failed: connection to server at "10.0.0.1", port 5432 failed: '
ENGLISH = BEGIN + 'FATAL:  password authentication failed for user "app"'
GERMAN = BEGIN + "FATAL:  Passwort-Authentifizierung für Benutzer »app« fehlgeschlagen"
CUT = BEGIN + "server closed the connection unexpectedly"
LOGIN = Login(host="db.example.org", user="app", password="x")


def fails(text: str, *, asked: bool = True) -> Any:
    """Let libpq say this; `asked`: the server asked for a password before."""
    error = psycopg.OperationalError(text, pgconn=SimpleNamespace(used_password=asked))  # type: ignore[arg-type]
    return mock.patch.object(sessions.psycopg, "connect", side_effect=error)


@pytest.mark.parametrize("wrong", [ENGLISH, GERMAN])
@pytest.mark.parametrize(
    ("text", "asked", "expected"),
    [
        ("the same", True, Answer.REFUSED),
        ("the same", False, Answer.UNKNOWN),
        (CUT, True, Answer.UNKNOWN),
        (BEGIN + "Connection refused", False, Answer.UNKNOWN),
        (BEGIN + "FATAL:  sorry, too many clients already", False, Answer.UNKNOWN),
        (BEGIN + "FATAL:  the database system is starting up", False, Answer.UNKNOWN),
        (BEGIN + "FATAL:  remaining connection slots are reserved for roles", True, Answer.IN),
        (BEGIN + 'FATAL:  too many connections for role "app"', True, Answer.IN),
        (BEGIN + 'FATAL:  permission denied for database "postgres"', True, Answer.IN),
        (BEGIN + 'FATAL:  database "postgres" does not exist', True, Answer.UNKNOWN),
        (BEGIN + "FATAL:  Rolle »app« hat keine Berechtigung zum Einloggen", True, Answer.UNKNOWN),
        ("connection timeout expired", False, Answer.UNKNOWN),
    ],
)
def test_only_what_a_wrong_password_gets_is_a_refusal(wrong: str, text: str, asked: bool, expected: Answer) -> None:
    with fails(wrong):
        refusal = probe.learn_refusal(LOGIN)
    with fails(wrong if text == "the same" else text, asked=asked):
        found = probe.probe(LOGIN, refusal=refusal)
    assert found.answer is expected
    assert found.error is not None


def test_what_is_learned_of_one_login_counts_for_another() -> None:
    with fails(GERMAN):
        refusal = probe.learn_refusal(LOGIN)
    other = Login(host="db.example.org", user="app_b", password="x")
    with fails(GERMAN.replace("app", "app_b")):
        assert probe.probe(other, refusal=refusal).answer is Answer.REFUSED


@pytest.mark.parametrize(("text", "asked"), [(CUT, True), (BEGIN + "Connection refused", False), (ENGLISH, False)])
def test_nothing_is_learned_from_a_failure_of_another_kind(text: str, asked: bool) -> None:
    with fails(text, asked=asked), pytest.raises(ServerUnreachable):
        probe.learn_refusal(LOGIN)


@pytest.mark.parametrize("text", [None, BEGIN + 'FATAL:  too many connections for role "app"'])
def test_a_server_that_takes_a_wrong_password_proves_nothing(text: str | None) -> None:
    told = fails(text) if text else mock.patch.object(sessions.psycopg, "connect")
    with told, pytest.raises(DatabaseRefused, match="a wrong password of app is taken"):
        probe.learn_refusal(LOGIN)


def test_a_login_by_token_is_named() -> None:
    told = fails(BEGIN + 'FATAL:  PAM authentication failed for user "app"')
    with told, pytest.raises(DatabaseRefused, match="app is in rds_iam"):
        probe.learn_refusal(LOGIN)


@pytest.mark.parametrize("told", [4711, 4712])
def test_a_pooler_is_known_by_its_own_process_numbers(told: int) -> None:
    session: Any = SimpleNamespace(
        rows=lambda _query: [(4711,)],
        connection=SimpleNamespace(info=SimpleNamespace(backend_pid=told)),
        where="db.example.org:5432",
    )
    if told == 4711:
        guards.require_no_pooler(session)
        return
    with pytest.raises(DatabaseRefused, match="this is a pooler"):
        guards.require_no_pooler(session)
