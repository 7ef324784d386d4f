# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The words of rotation, as values.

Strategy   who sets the new password
Held       a version of the secret, and the credentials in it
Probe      what a server says of a password
"""

from __future__ import annotations

import enum
import typing as t
from dataclasses import dataclass

from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import document
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Version

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._errors import ServerUnreachable
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.document import Credentials

# The second of two logins that take turns.
SECOND = "_b"


class Strategy(enum.Enum):
    SINGLE = "single"
    ADMIN = "admin"
    ALTERNATE = "alternate"


class Answer(enum.Enum):
    """UNKNOWN is everything that says nothing of the password: the network, TLS, a server that is starting."""

    IN = "in"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class Probe:
    """``error``: why there was no session."""

    answer: Answer
    error: ServerUnreachable | None = None


@dataclass(frozen=True, kw_only=True)
class Held:
    version: str
    credentials: Credentials

    def is_same_login(self, other: Held) -> bool:
        """Whatever else they say."""
        return (self.user, self.credentials.password) == (other.user, other.credentials.password)

    @property
    def as_stored(self) -> Version:
        return Version(id=self.version, text=document.compose(self.credentials))

    @property
    def user(self) -> str:
        return self.credentials.username
