# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What can go wrong, in the classes that a user can act on.

LatchkeyError
  InvalidOption       an option is wrong: nothing was sent to any server
  LibraryMissing      a Python library is not installed where the task runs
  SecretUnreadable    a secret or a token can't be had from the cloud, or is of no use
    SecretMissing     there is no such secret, or no such version of it
      SecretDeleted   not any more, or not for long
    NotAuthenticated  the cloud does not know who asks
    SecretDenied      it is there, or may be, and this identity may not
    SecretDisabled    it is there, and its owner has turned it off
    SecretChanged     somebody else was faster
  ServerUnreachable   no session with the server: address, TLS, login, limits
  DatabaseRefused     the server is there and will not: rights, state, locks
"""

from __future__ import annotations

import typing as t


class LatchkeyError(Exception):
    """One line: where, what, and the next step."""

    kind: t.ClassVar[str] = "error"

    def __init__(self, what: str, *, where: str | None = None, next_step: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.next_step = next_step

    def __str__(self) -> str:
        said = f"{self.where}: {self.what}" if self.where else self.what
        said = said.rstrip(". ")  # libpq ends some of its sentences
        end = " " if said.endswith("?") else ". "
        line = f"{said}{end}{self.next_step}" if self.next_step else said
        return " ".join(line.splitlines())  # a name may contain a line break


class InvalidOption(LatchkeyError):
    kind = "invalid_option"


class LibraryMissing(LatchkeyError):
    kind = "library_missing"


class SecretUnreadable(LatchkeyError):
    kind = "secret_unreadable"


class SecretMissing(SecretUnreadable):
    pass


class SecretDeleted(SecretMissing):
    pass


class NotAuthenticated(SecretUnreadable):
    pass


class SecretDenied(SecretUnreadable):
    pass


class SecretDisabled(SecretUnreadable):
    pass


class SecretChanged(SecretUnreadable):
    pass


class ServerUnreachable(LatchkeyError):
    kind = "server_unreachable"


class DatabaseRefused(LatchkeyError):
    kind = "database_refused"


__all__ = (
    "DatabaseRefused",
    "InvalidOption",
    "LatchkeyError",
    "LibraryMissing",
    "NotAuthenticated",
    "SecretChanged",
    "SecretDeleted",
    "SecretDenied",
    "SecretDisabled",
    "SecretMissing",
    "SecretUnreadable",
    "ServerUnreachable",
)
