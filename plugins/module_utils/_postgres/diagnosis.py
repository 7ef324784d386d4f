# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""From libpq's words about a failed connection to the next step of the person who reads them.

libpq gives text and no SQLSTATE here, and the server's part of the text may be translated. So nothing but
advice, and whether to wait for a free slot, depends on these words: what is not recognised is passed on as it is.
"""

from __future__ import annotations

import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import platforms

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import Login

TLS_OPTIONS = "Or choose a weaker ssl_mode, if you must"
# The server, the database or the role has no connection to spare.
SERVER_FULL = ("too many clients", "remaining connection slots")
FULL = (*SERVER_FULL, "too many connections for")
# What the server checks only after the password.
LET_IN = ("remaining connection slots", "too many connections for", "permission denied for database")
# libpq's words for a name that has no address, and psycopg's, which looks it up itself.
UNKNOWN_HOST = ("could not translate host name", "failed to resolve host")
# (a part of the text, the next step); the first that matches is given.
ADVICE = (
    ("certificate verify failed", "{ca_advice}"),
    ("does not match host name", "Give login_host as the name in the certificate (on Azure and RDS the endpoint's)"),
    ("valid client certificate", "The server asks for a client's certificate: set ssl_cert and ssl_key"),
    ("root certificate file", "Check ca_cert: {ca_advice}"),
    ("could not read root certificate", "Check ca_cert: {ca_advice}"),
    ("server does not support SSL", "Turn TLS on in the server. " + TLS_OPTIONS),
    ("no encryption", "The server takes only TLS sessions: set ssl_mode to verify-full"),
    ("SSL error", "Check that login_port is PostgreSQL's and that no proxy stands between"),
    *((words, "Check login_host and the name service of the machine that runs this task") for words in UNKNOWN_HOST),
    ("Connection refused", "Check login_host and login_port, and that the server runs"),
    ("timeout expired", "Check the route and the firewall (security group, private endpoint) to login_host:login_port"),
    ("timed out", "Check the route and the firewall (security group, private endpoint) to login_host:login_port"),
    ("No route to host", "Check the route to login_host"),
    ("Network is unreachable", "Check the route to login_host"),
    ("password authentication failed", "Check {source}"),
    ("no password supplied", "Set login_password"),
    ("PAM authentication failed", "Check {source}; with IAM the password is a token of at most 15 minutes"),
    ("not permitted to log in", "Check login_user: this role has no LOGIN"),
    ("no pg_hba.conf entry", "The server's access rules refuse this login, database or ssl_mode"),
    ("pg_hba.conf rejects", "The server's access rules refuse this login or database"),
    *((words, "Wait, raise the server's limit, or lower the option connections") for words in FULL),
    ("does not exist", "Check login_db and login_user"),
)


def explain(text: str, *, login: Login) -> tuple[str, str | None]:
    """What libpq said, on one line, and the next step if it is known."""
    reason = " ".join(text.split())
    advice = next((step for words, step in ADVICE if words in reason), None)
    if advice is None:
        return reason, None
    ca_advice = platforms.by_host(login.host).ca_advice
    step = advice.format(ca_advice=ca_advice, source=login.source)
    return reason, step[0].upper() + step[1:]


def is_server_full(text: str) -> bool:
    """Whether no other database of the server would take the connection either."""
    return any(words in text for words in SERVER_FULL)


def is_let_in(text: str) -> bool:
    """Whether the password was right, although there is no session."""
    return any(words in text for words in LET_IN)


def is_wrong_password(text: str) -> bool:
    """Whether the server refused the password. Other languages are not recognised."""
    return "password authentication failed" in text


def is_full(text: str) -> bool:
    """Whether a connection was refused only because there are too many."""
    return any(words in text for words in FULL)
