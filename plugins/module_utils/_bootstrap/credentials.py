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
import uuid
from dataclasses import dataclass, field, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap import connector as connectors
from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    SecretDeleted,
    SecretMissing,
    SecretUnreadable,
    ServerUnreachable,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import session as sessions
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access, document, rds
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.document import Credentials

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.options import ConnectorSecret, Options
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.rds import Instance
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Store, Version

# By this tag of an RDS instance, a just-in-time access service finds the secret of its connector.
INSTANCE_TAG = "apono-secret"


@dataclass(frozen=True, kw_only=True)
class SecretReport:
    """What was done about the secret, or would be. ``verified`` is None where there was nothing to try yet."""

    reference: str
    version: str | None = None
    created: bool = False
    replaced: bool = False
    tags: c.Mapping[str, str] = field(default_factory=dict)
    instance: str | None = None
    verified: bool | None = None
    reason: str | None = None

    @property
    def changed(self) -> bool:
        return self.created or self.replaced or bool(self.tags) or self.instance is not None

    def values(self) -> dict[str, t.Any]:
        return {
            "reference": self.reference,
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
        lines = [f"secret {self.reference}: {one}" for one in done]
        return (*lines, *([f"instance {self.instance}: tag {INSTANCE_TAG}"] if self.instance else ()))


@dataclass(frozen=True, kw_only=True)
class Held:
    """What the store holds now; in check mode, what a run would have put there."""

    credentials: Credentials = field(repr=False)
    report: SecretReport
    instance: Instance | None = None


def provide(options: Options, secret: ConnectorSecret, *, role_exists: bool, check: bool) -> Held:
    """The credentials from the store, where they now are."""
    instance = rds.find(secret.cloud, secret.endpoint) if secret.endpoint else None
    store = access.open_store(secret.reference.cloud)
    current, found = _read(options, secret, store)
    if current and found and not _strangeness(options, found):
        _require_login(options, secret, found, role_exists=role_exists)
        report = SecretReport(reference=secret.reference.name, version=current.id)
        report = _tagged(report, secret, store, current, check=check)
        return Held(credentials=found, report=report, instance=instance)
    made = _new(options, secret, before=found, role_exists=role_exists)
    report = SecretReport(reference=secret.reference.name, created=current is None, replaced=current is not None)
    if not check:
        report = replace(report, version=_write(store, secret, made, current=current).id)
    return Held(credentials=made, report=report, instance=instance)


def _read(options: Options, secret: ConnectorSecret, store: Store) -> tuple[Version | None, Credentials | None]:
    try:
        current = store.read(secret.reference.name)
    except SecretDeleted:
        raise
    except SecretMissing:
        return None, None
    found = document.parse(current.text, where=secret.where, username=options.connector)
    strangeness = _strangeness(options, found)
    if strangeness and not secret.force:
        raise SecretUnreadable(
            f"it holds {strangeness}, and was left alone",
            where=secret.where,
            next_step="Give each server a secret of its own, or set force to store new credentials over it",
        )
    return current, found


def _strangeness(options: Options, found: Credentials) -> str | None:
    """What shows that a secret is not this connector's on this server."""
    if found.username != options.connector:
        return f"the credentials of user {found.username}, not {options.connector}"
    if found.host and found.host.lower() != options.login.host.lower():
        return f"the credentials of another server, {found.host}"
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
        others=before.others if before else {},
    )


def _write(store: Store, secret: ConnectorSecret, made: Credentials, *, current: Version | None) -> Version:
    name, text = secret.reference.name, document.compose(made)
    if current is None:
        return store.create(name, text, tags=secret.tags, kms_key_id=secret.kms_key_id)
    owner = store.describe(name).rotated_by
    if owner:
        raise SecretUnreadable(
            f"{owner} changes it, so nobody else may", where=secret.where, next_step="Choose another secret"
        )
    pending = store.write_pending(name, text, token=str(uuid.uuid4()))
    store.promote(name, pending.id, expected=current.id)
    store.clear_pending(name, pending.id)
    return pending


def _require_login(options: Options, secret: ConnectorSecret, found: Credentials, *, role_exists: bool) -> None:
    """Say before anything is changed that the secret and the role have parted."""
    if not role_exists or options.always_set_password:
        return
    if not connectors.logs_in(replace(options, connector_password=found.password)):
        raise SecretUnreadable(
            f"its password is not that of role {options.connector}",
            where=secret.where,
            next_step="Correct the secret, or set update_password to always to give the role this password",
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
        rds.tag(secret.cloud, secret.endpoint, held.instance, {INSTANCE_TAG: reference})
    return replace(held.report, instance=held.instance.arn)


def verify(options: Options, secret: ConnectorSecret, held: Held, report: SecretReport) -> SecretReport:
    """Log in as a reader of the secret would, with what it gets."""
    got = held.credentials
    if report.created or report.replaced:
        text = access.open_store(secret.reference.cloud).read(secret.reference.name).text
        got = document.parse(text, where=secret.where, username=options.connector)
    login = replace(
        connectors.login_as(options, password=got.password),
        user=got.username,
        host=got.host or options.login.host,
        port=got.port or options.login.port,
        database=got.dbname or options.login.database,
    )
    try:
        sessions.connect(login, read_only=True).close()
    except ServerUnreachable as error:
        return replace(report, verified=False, reason=str(error))
    return replace(report, verified=True)
