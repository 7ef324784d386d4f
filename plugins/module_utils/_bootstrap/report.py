# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What a run found and did, as values, and as what Ansible returns."""

from __future__ import annotations

import collections.abc as c
import typing as t
from dataclasses import dataclass, field, replace

from ansible_collections.latchkey.postgres.plugins.module_utils._access.names import SCHEMA
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.public import PUBLIC_HEIR
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.statements import compose
from ansible_collections.latchkey.postgres.plugins.module_utils._privileges.values import (
    AnyStep,
    Cause,
    DefaultStep,
    ObjectName,
    Plan,
    Step,
    Uncovered,
)

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.connector import (
        ConnectorReport,
        MembershipReport,
    )
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.credentials import SecretReport
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.hardening import PublicEntry
    from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.journal import JournalReport
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.catalog import Server
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.platforms import Platform
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.sql import Statement


@dataclass(frozen=True, kw_only=True)
class Visit:
    """One database of the server: what was found there and what was done.

    ``expected``: that it was not reached is nobody's fault and no run can change it. ``planned``: what was to be given
    in it; ``given``: what was, on the database itself.
    """

    database: str
    reachable: bool = True
    reason: str | None = None
    expected: bool = False
    objects: int = 0
    covered: int = 0
    changed: bool = False
    uncovered: tuple[Uncovered, ...] = ()
    statements: tuple[Statement, ...] = ()
    planned: Plan = field(default_factory=Plan)
    given: tuple[Step, ...] = ()
    # What was taken from PUBLIC, and what PUBLIC and its heir hold now.
    moved: tuple[Step, ...] = ()
    public: tuple[PublicEntry, ...] = ()
    lost: tuple[str, ...] = ()

    @property
    def gained(self) -> tuple[str, ...]:
        moved = (f"{line} from PUBLIC to {PUBLIC_HEIR}" for line in step_lines(self.moved))
        return (*step_lines(self.given), *achieved_lines(self.planned, self.uncovered), *moved)


@dataclass(frozen=True, kw_only=True)
class Access:
    """What the connector needs to hand out access: roles and rights, and the journal if one is wanted."""

    rights: tuple[MembershipReport, ...] = ()
    journal: t.Optional[JournalReport] = None  # noqa: UP045
    statements: tuple[Statement, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Report:
    server: Server
    platform: Platform
    where: str
    connector: ConnectorReport
    visits: tuple[Visit, ...]
    # What was done in the maintenance database: the connector's role and the databases themselves.
    statements: tuple[Statement, ...] = ()
    # Of the databases themselves, with their names.
    lost: tuple[str, ...] = ()
    secret: SecretReport | None = None
    access: Access = field(default_factory=Access)
    # None: PUBLIC was left alone.
    public: t.Optional[tuple[PublicEntry, ...]] = None  # noqa: UP045

    @property
    def changed(self) -> bool:
        stored = self.secret is not None and self.secret.changed
        made = bool(self.connector.statements or self.access.statements)
        return stored or made or any(visit.changed for visit in self.visits)

    @property
    def unreached(self) -> tuple[str, ...]:
        """Databases that another run might reach."""
        missed = (visit for visit in self.visits if not visit.reachable and not visit.expected)
        return tuple(f"database {visit.database}: {visit.reason}" for visit in missed)

    @property
    def blemishes(self) -> tuple[str, ...]:
        """What keeps the coverage from being whole and could be otherwise, a line each."""
        lines = [
            f"{entry.owner} in {visit.database}: {entry.reason}"
            for visit in self.visits
            for entry in visit.uncovered
            if entry.cause is not Cause.PLATFORM
        ]
        lines += self.unreached
        membership = self.connector.membership
        if membership is not None and membership.reason:
            lines.append(f"membership in {membership.role}: {membership.reason}")
        lines += [f"right to {right.role}: {right.reason}" for right in self.access.rights if right.reason]
        journal = self.access.journal
        if journal is not None and journal.reason:
            lines.append(f"journal: {journal.reason}")
        return tuple(lines)

    def values(self) -> dict[str, t.Any]:
        objects = sum(visit.objects for visit in self.visits)
        covered = sum(visit.covered for visit in self.visits)
        shown = {} if self.public is None else {"public": [entry.values() for entry in self.public]}
        return {
            **shown,
            "server": {
                "host": self.where,
                "version": self.server.version_text,
                "platform": self.platform.name,
                "login": self.server.user,
            },
            "connector": _connector(self.connector),
            "rights": [_membership(right) for right in self.access.rights],
            "journal": _journal(self.access.journal),
            "secret": self.secret.values() if self.secret else None,
            "databases": [_database(visit) for visit in self.visits],
            "coverage": {"objects": objects, "covered": covered, "ratio": _ratio(covered, objects)},
            "uncovered": [_uncovered(visit.database, entry) for visit in self.visits for entry in visit.uncovered],
            "statements": [
                *({"database": None, "sql": str(statement)} for statement in self.statements),
                *(
                    {"database": visit.database, "sql": str(statement)}
                    for visit in self.visits
                    for statement in visit.statements
                ),
            ],
        }

    def diff(self) -> dict[str, str]:
        """The role by its statements, whose passwords are hidden; all else by what is held."""
        role = (f"role {self.connector.name}",) if self.connector.dropped else ()
        return {
            "before_header": f"privileges of {self.connector.name} on {self.where}",
            "after_header": f"privileges of {self.connector.name} on {self.where}",
            "before": _lines(
                (*role, *self.lost, *(f"{visit.database}: {line}" for visit in self.visits for line in visit.lost))
            ),
            "after": _lines(
                (
                    *(self.secret.lines() if self.secret else ()),
                    *(() if self.connector.dropped else map(str, self.connector.statements)),
                    *(() if self.connector.dropped else map(str, self.access.statements)),
                    *(f"{visit.database}: {line}" for visit in self.visits for line in visit.gained),
                )
            ),
        }


def step_lines(steps: c.Iterable[AnyStep]) -> tuple[str, ...]:
    """A line for each object, or kind of default privileges, with the privileges that the steps are about."""
    lines: list[str] = []
    for step in steps:
        if isinstance(step, DefaultStep):
            place = f" in {step.item.schema}" if step.item.schema else ""
            lines.append(
                f"DEFAULT {step.item.kind.plural} of {step.item.creator}{place}: {', '.join(step.item.privileges)}"
            )
            continue
        lines += [f"{step.kind.value} {name}: {', '.join(step.privileges)}" for name in step.objects]
    return tuple(lines)


def planned_lines(plan: Plan) -> tuple[str, ...]:
    return tuple(line for batch in plan.batches if batch.route.proven for line in step_lines(batch.steps))


def on_database(steps: c.Iterable[AnyStep], database: str) -> tuple[Step, ...]:
    """Of steps on databases themselves, the part that is about one of them."""
    name = ObjectName(None, database)
    return tuple(replace(step, objects=(name,)) for step in steps if isinstance(step, Step) and name in step.objects)


def achieved_lines(plan: Plan, uncovered: c.Iterable[Uncovered]) -> tuple[str, ...]:
    """What was planned less what stayed uncovered."""
    left = set(step_lines(step for entry in uncovered for step in entry.steps))
    return tuple(line for batch in plan.batches for line in step_lines(batch.steps) if line not in left)


def _lines(lines: c.Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _ratio(covered: int, objects: int) -> float:
    return round(covered / objects, 4) if objects else 1.0


def _connector(report: ConnectorReport) -> dict[str, t.Any]:
    membership = report.membership
    return {
        "name": report.name,
        "created": report.created,
        "membership": None if membership is None else _membership(membership),
    }


def _membership(report: MembershipReport) -> dict[str, t.Any]:
    return {"role": report.role, "granted": report.granted, "reason": report.reason, "sql": report.sql}


def _journal(report: JournalReport | None) -> dict[str, t.Any] | None:
    if report is None:
        return None
    return {
        "schema": SCHEMA,
        "available": report.available,
        "append_only": report.append_only,
        "reason": report.reason,
        "sql": report.sql,
    }


def _database(visit: Visit) -> dict[str, t.Any]:
    return {
        "name": visit.database,
        "reachable": visit.reachable,
        "reason": visit.reason,
        "expected": visit.reachable or visit.expected,
        "objects": visit.objects,
        "covered": visit.covered,
    }


def _uncovered(database: str, entry: Uncovered) -> dict[str, t.Any]:
    return {
        "database": database,
        "owner": entry.owner,
        "objects": entry.objects,
        "default_privileges": sum(isinstance(step, DefaultStep) for step in entry.steps),
        "cause": entry.cause.value,
        "sqlstate": entry.sqlstate,
        "reason": entry.reason,
        "remedy": entry.remedy,
        "sql": [compose(step).as_string(None) + ";" for step in entry.steps],
    }
