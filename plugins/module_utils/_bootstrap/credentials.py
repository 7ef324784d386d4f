# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The connector's secret: durable before its role is made, announced and tried afterwards.

A run may end anywhere. The next one finds the secret and goes on with the same password.
"""

from __future__ import annotations

import collections.abc as c
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap import connector as connectors
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    SecretChanged,
    SecretDeleted,
    SecretMissing,
    SecretUnreadable,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import diagnosis
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.values import SECOND
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access, document
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.document import Credentials

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.options import ConnectorSecret, Options
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import Role
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.endpoint import Endpoint
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.rds import Instance
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Aws, Store, Version

# By this tag of an RDS instance, a just-in-time access service finds the secret of its connector.
INSTANCE_TAG = "apono-secret"
OVERWRITTEN = "another run has stored other credentials in it"


@dataclass(frozen=True, kw_only=True)
class SecretReport:
    """What was done about the secret, or would be. ``verified`` is None where there was nothing to try yet."""

    name: str
    version: str | None = None
    created: bool = False
    replaced: bool = False
    tags: c.Mapping[str, str] = field(default_factory=dict)
    instance: str | None = None
    verified: bool | None = None
    reason: str | None = None
    kind: str = SecretUnreadable.kind

    @property
    def changed(self) -> bool:
        return self.created or self.replaced or bool(self.tags) or self.instance is not None

    def values(self) -> dict[str, t.Any]:
        return {
            "name": self.name,
            "version": self.version,
            "created": self.created,
            "replaced": self.replaced,
            "tags": dict(self.tags),
            "instance": self.instance,
            "verified": self.verified,
        }

    def lines(self) -> tuple[str, ...]:
        done = [word for word, so in (("made", self.created), ("replaced", self.replaced)) if so]
        done += [f"tag {key}={value}" for key, value in self.tags.items()]
        lines = [f"secret {self.name}: {one}" for one in done]
        return (*lines, *([f"instance {self.instance}: tag {INSTANCE_TAG}"] if self.instance else ()))


@dataclass(frozen=True, kw_only=True)
class Held:
    """What the store holds now; in check mode, what a run would have put there."""

    credentials: Credentials = field(repr=False)
    report: SecretReport
    instance: Instance | None = None


def provide(options: Options, secret: ConnectorSecret, *, role: Role | None, check: bool) -> Held:
    """The credentials from the store, where they now are."""
    instance = _find_instance(secret)
    store = access.open_store(secret.reference.cloud)
    current, found = _read(options, secret, store)
    report = SecretReport(name=secret.reference.name)
    if current and found and not _strangeness(options, found):
        _require_login(options, secret, found, role=role)
        report = _tagged(replace(report, version=current.id), secret, store, current, check=check)
        return Held(credentials=found, report=report, instance=instance)
    made = _new(options, secret, before=found, role_exists=role is not None)
    if current is None:
        report = replace(report, created=True)
        if not check:
            store.create(report.name, document.compose(made), tags=secret.tags, kms_key_id=secret.kms_key_id)
            _require_kept(secret, made)
        return Held(credentials=made, report=report, instance=instance)
    _require_free(store, secret)
    if not check:
        store.replace(report.name, document.compose(made))
        _require_kept(secret, made)
    report = _tagged(replace(report, replaced=True), secret, store, current, check=check)
    return Held(credentials=made, report=report, instance=instance)


def _find_instance(secret: ConnectorSecret) -> Instance | None:
    if secret.endpoint is None:
        return None
    # Here, because it loads the SDK, which not everybody has.
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import rds  # noqa: PLC0415

    return rds.find(secret.cloud, secret.endpoint)


def _tag_instance(cloud: Aws, endpoint: Endpoint, instance: Instance, *, reference: str) -> None:
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import rds  # noqa: PLC0415

    rds.tag(cloud, endpoint, instance, {INSTANCE_TAG: reference})


def _read(options: Options, secret: ConnectorSecret, store: Store) -> tuple[Version | None, Credentials | None]:
    try:
        current = store.read(secret.reference.name)
    except SecretMissing as error:
        if isinstance(error, SecretDeleted):
            raise
        if secret.reference.name.startswith("arn:"):
            # Only AWS itself makes an ARN: there must be a secret, if without a value.
            store.describe(secret.reference.name)
        return None, None
    found = document.parse(current.text, where=secret.where, username=options.connector)
    strangeness = _strangeness(options, found)
    if strangeness and not secret.force:
        raise SecretUnreadable(
            f"it holds {strangeness}, and was left alone",
            where=secret.where,
            next_step=(
                "Give each server a secret of its own; or, if this is the same server, correct the host in it; or set"
                " force to store new credentials over it"
            ),
        )
    return current, found


def _strangeness(options: Options, found: Credentials) -> str | None:
    """What shows that a secret is not this connector's on this server. Rotation may have made it two logins."""
    if found.username not in (options.connector, options.connector + SECOND):
        return f"the credentials of another user than {options.connector}"
    host, port = (found.host or options.login.host).lower(), found.port or options.login.port
    if (host, port) != (options.login.host.lower(), options.login.port):
        return f"the credentials of another server, {host}:{port}"
    return None


def _new(options: Options, secret: ConnectorSecret, *, before: Credentials | None, role_exists: bool) -> Credentials:
    """Fresh credentials. A role that exists has a password, which the secret must say or the role must change."""
    given = options.connector_password
    if role_exists and not options.always_set_password and not (given and connectors.logs_in(options)):
        raise SecretUnreadable(
            f"there is none, but role {options.connector} exists with a password that is not known"
            if before is None
            else f"to replace it would not change the password of role {options.connector}, which exists",
            where=secret.where,
            next_step="Give the role's password in connector_password, or set update_password to always for a new one",
        )
    return Credentials(
        username=options.connector,
        password=given or document.generate_password(),
        engine="postgres",
        host=options.login.host,
        port=options.login.port,
        dbname=options.login.database,
    )


def _require_free(store: Store, secret: ConnectorSecret) -> None:
    owner = store.describe(secret.reference.name).rotated_by
    if owner:
        raise SecretUnreadable(
            f"{owner} changes it, so nobody else may", where=secret.where, next_step="Choose another secret"
        )


def _read_again(secret: ConnectorSecret, *, username: str) -> tuple[Version, Credentials]:
    current = access.open_store(secret.reference.cloud).read(secret.reference.name)
    return current, document.parse(current.text, where=secret.where, username=username)


def _require_kept(secret: ConnectorSecret, made: Credentials) -> None:
    """Two servers that share a secret by mistake may write it in the same moment, and a Key Vault keeps the later."""
    if _read_again(secret, username=made.username)[1] != made:
        raise SecretChanged(OVERWRITTEN, where=secret.where, next_step="Give each server a secret of its own")


def _require_login(options: Options, secret: ConnectorSecret, found: Credentials, *, role: Role | None) -> None:
    """Say before anything is changed that the secret and the role have parted; a role without LOGIN can't tell yet."""
    second = found.username != options.connector
    if role is None or not role.login or (options.always_set_password and not second):
        return
    login = connectors.login_as(options, password=found.password)
    error = connectors.refusal(replace(login, user=found.username))
    if error is None or diagnosis.is_let_in(error.what):
        return
    if not diagnosis.is_wrong_password(error.what):
        raise error  # which says nothing of the secret
    raise SecretUnreadable(
        f"its password is not that of role {found.username}",
        where=secret.where,
        next_step="Correct the secret, or "
        + ("run pg_rotate_credentials" if second else "set update_password to always to give the role this password"),
    )


def _tagged(
    report: SecretReport, secret: ConnectorSecret, store: Store, current: Version, *, check: bool
) -> SecretReport:
    """With the tags that were missing."""
    name = secret.reference.name
    present = current.tags if current.tags is not None else store.describe(name).tags
    missing = {key: value for key, value in secret.tags.items() if present.get(key) != value}
    if missing and not check:
        store.tag(name, missing)
    return replace(report, tags=missing)


def announce(secret: ConnectorSecret, held: Held, *, check: bool) -> SecretReport:
    """Let the service find the secret by a tag of the RDS instance."""
    if held.instance is None or secret.endpoint is None:
        return held.report
    reference = name = secret.reference.name
    if not (check and held.report.created):
        reference = access.open_store(secret.reference.cloud).describe(name).reference
    if held.instance.tags.get(INSTANCE_TAG) == reference:
        return held.report
    if not check:
        _tag_instance(secret.cloud, secret.endpoint, held.instance, reference=reference)
    return replace(held.report, instance=held.instance.arn)


def verify(options: Options, secret: ConnectorSecret, held: Held, report: SecretReport) -> SecretReport:
    """Log in as a reader of the secret would, with what it gets."""
    got = held.credentials
    if report.created or report.replaced:
        current, got = _read_again(secret, username=options.connector)
        report = replace(report, version=current.id)
    if got != held.credentials:
        return replace(report, verified=False, reason=OVERWRITTEN)
    login = replace(
        connectors.login_as(options, password=got.password),
        user=got.username,
        host=got.host or options.login.host,
        port=got.port or options.login.port,
        database=got.dbname or options.login.database,
    )
    error = connectors.refusal(login)
    if error is None:
        return replace(report, verified=True)
    told = SecretUnreadable if diagnosis.is_wrong_password(error.what) else error
    return replace(report, verified=False, reason=str(error), kind=told.kind)
