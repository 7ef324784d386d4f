# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Plain roles: they hold privileges on data, and lead to no power over the server. Only these are handed out."""

from __future__ import annotations

import typing as t

from ansible_collections.latchkey.postgres.plugins.module_utils._access import names
from ansible_collections.latchkey.postgres.plugins.module_utils._postgres import platforms

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._postgres.routes import RoleGraph


def objection(role: str, graph: RoleGraph, *, connector: str) -> str | None:
    """Why a role is not plain; None if it is. A member could become all that it is in, whatever the options are."""
    for reached in (role, *sorted(graph.reached_from(role) - {role})):
        what = "it" if reached == role else f"it is a member of {reached}, which"
        if reached == connector:
            return f"{what} is the connector itself"
        if reached.startswith(names.PREFIX):
            return f"{what} is this collection's own: names that begin with {names.PREFIX} are"
        if reached not in graph.roles:
            return "the server has no such role"
        if graph.roles[reached].powerful:
            return f"{what} has SUPERUSER, CREATEROLE, REPLICATION or BYPASSRLS"
        if graph.platform.owns_role(reached) and reached not in platforms.HARMLESS:
            return f"{what} is a role of the platform or of PostgreSQL itself"
    return None
