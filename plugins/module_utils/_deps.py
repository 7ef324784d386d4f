# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The libraries that are not part of Ansible, imported in one place.

Other files take them from here, so that a missing one is reported by the doors in one sentence.
"""

from __future__ import annotations

import traceback
import typing as t

PSYCOPG_TRACEBACK: str | None = None

if t.TYPE_CHECKING:
    import psycopg
    from psycopg import sql
else:
    try:
        import psycopg
        from psycopg import sql
    except ImportError:
        psycopg = sql = None
        PSYCOPG_TRACEBACK = traceback.format_exc()

__all__ = ("PSYCOPG_TRACEBACK", "psycopg", "sql")
