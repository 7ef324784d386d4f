# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The names of the roles that this collection makes."""

from __future__ import annotations

import hashlib
import re
import unicodedata

# Whoever is a member of it is ours; nothing else is ever altered or dropped. It has no privileges.
MARKER = "latchkey_managed"
# Where what a person left behind can go; it has no privileges, and no members.
GRAVEYARD = "latchkey_graveyard"
# The schema of the journal, in the maintenance database.
SCHEMA = "latchkey"
PREFIX = "latchkey_"
GRANT, PROFILE = f"{PREFIX}g_", f"{PREFIX}p_"

LONGEST = 63  # bytes; the server cuts longer names with a mere notice


def grant_role(request: str) -> str:
    return GRANT + digest(request, 16)


def profile_role(scope: str) -> str:
    return PROFILE + digest(scope, 16)


def login_role(identity: str) -> str:
    """A readable part of the identity, and a part that no other identity has."""
    plain = unicodedata.normalize("NFKD", identity).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "_", plain).strip("_")[:40] or "user"
    return f"{'u_' if slug.startswith(('pg_', PREFIX)) or slug == 'pg' else ''}{slug}_{digest(identity, 8)}"


def digest(text: str, length: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:length]
