# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The options by which every module of this collection logs in, and what they come to."""

from __future__ import annotations

import collections.abc as c
import typing as t
from dataclasses import replace

from ansible.module_utils.basic import env_fallback

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import InvalidOption
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.session import SSL_MODES, Login
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access, document, tokens
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.options import SECRET_STORE, cloud_of
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Aws, Azure, locate

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._door import Context, Params
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.document import Credentials
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Cloud

# Modes that never send a password in the clear.
PRIVATE = ("require", "verify-ca", "verify-full")


def _option(kind: str, variable: str | None = None, **more: t.Any) -> dict[str, t.Any]:
    return {"type": kind, **({"fallback": (env_fallback, [variable])} if variable else {}), **more}


LOGIN_ARGUMENTS: c.Mapping[str, t.Any] = {
    "login_host": _option("str", "PGHOST", required=True),
    "login_port": _option("int", "PGPORT", default=5432),
    "login_user": _option("str", "PGUSER"),
    "login_password": _option("str", "PGPASSWORD", no_log=True),
    "login_secret": _option("str", no_log=False),
    "login_auth": _option("str", default="password", choices=["password", "rds_iam", "entra"]),
    "login_db": _option("str", "PGDATABASE", default="postgres"),
    "ssl_mode": _option("str", "PGSSLMODE", default="verify-full", choices=list(SSL_MODES)),
    "ca_cert": _option("path", "PGSSLROOTCERT", aliases=["ssl_rootcert"]),
    "ssl_cert": _option("path", "PGSSLCERT"),
    "ssl_key": _option("path", "PGSSLKEY"),
    "connect_params": _option("dict", default={}),
    "connect_timeout": _option("int", "PGCONNECT_TIMEOUT", default=10),
    "secret_store": SECRET_STORE,
    "direct": _option("str", default="auto", choices=["auto", "never"]),
}
LOGIN_RULES: c.Mapping[str, t.Any] = {
    "required_one_of": [["login_user", "login_secret"]],
    "required_by": {"login_secret": ["secret_store"]},
}


def login_of(params: Params, context: Context) -> Login:
    """The login, with its password fetched or its token made."""
    user, password, source = _identity(params)
    context.hide(password)
    return replace(address_of(params), user=user, password=password, source=source)


def address_of(params: Params) -> Login:
    """The server, as nobody."""
    return Login(
        host=params["login_host"],
        port=params["login_port"],
        user="",
        database=params["login_db"],
        ssl_mode=params["ssl_mode"],
        ca_cert=params["ca_cert"],
        ssl_cert=params["ssl_cert"],
        ssl_key=params["ssl_key"],
        connect_params=params["connect_params"],
        connect_timeout=params["connect_timeout"],
    )


def store_of(params: Params) -> Cloud | None:
    return cloud_of(params["secret_store"]) if params["secret_store"] else None


def _identity(params: Params) -> tuple[str, str | None, str]:
    """User, password, and where they come from.

    A secret or a token wins over a password, because that may have come with the environment.
    """
    secret, auth, cloud = params["login_secret"], params["login_auth"], store_of(params)
    if secret and auth != "password":
        raise InvalidOption(
            f"login_secret: with login_auth {auth} the password is a token, and there is no secret to read",
            next_step="Leave one of them out",
        )
    if secret and cloud:
        return _from_secret(cloud, secret, user=params["login_user"])
    if auth != "password":
        if params["ssl_mode"] not in PRIVATE:
            raise InvalidOption(
                f"login_auth: a token is sent as it is, and ssl_mode {params['ssl_mode']} may send it without TLS",
                next_step=f"Set ssl_mode to one of {', '.join(PRIVATE)}",
            )
        return params["login_user"], _token(params, cloud), f"login_user, to whom login_auth {auth} must be open"
    return params["login_user"], params["login_password"], "login_user and login_password"


def _from_secret(cloud: Cloud, name: str, *, user: str | None) -> tuple[str, str, str]:
    found, where = credentials_of(cloud, name, option="login_secret", user=user)
    return found.username, found.password, f"login_secret ({where})"


def credentials_of(
    cloud: Cloud, name: str, *, option: str, user: str | None, afresh: bool = False
) -> tuple[Credentials, str]:
    """What the secret that an option names says, and where that is."""
    reference = locate(cloud, name)
    text = access.read(reference, afresh=afresh).text
    return document.parse(text, where=f"{option}: {reference.where}", username=user), reference.where


def _token(params: Params, cloud: Cloud | None) -> str:
    """As the identity of the secret store, if one is given."""
    host, auth = params["login_host"], params["login_auth"]
    if auth == "rds_iam" and isinstance(cloud or Aws(), Aws):
        aws = t.cast("Aws", cloud or Aws())
        return tokens.rds_iam_token(aws, host=host, port=params["login_port"], user=params["login_user"])
    if auth == "entra" and isinstance(cloud or Azure(), Azure):
        return tokens.entra_token(t.cast("Azure", cloud or Azure()), host=host)
    raise InvalidOption(f"login_auth: {auth} is not of the cloud in secret_store", next_step="Correct one of them")
