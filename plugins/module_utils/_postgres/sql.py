# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Composing SQL: names and values enter a statement here and nowhere else."""

from __future__ import annotations

import collections.abc as c
import typing as t
from dataclasses import dataclass

from ansible_collections.latchkey.postgres.plugins.module_utils._deps import sql

if t.TYPE_CHECKING:
    from psycopg.sql import Composable


def statement(template: str, **parts: Composable) -> Composable:
    """A statement from a template of this collection; every ``{part}`` is already quoted."""
    return sql.SQL(template).format(**parts)


def name(*parts: str) -> Composable:
    return sql.Identifier(*parts)


def literal(value: object) -> Composable:
    return sql.Literal(value)


def keyword(words: str) -> Composable:
    """SQL words of this collection or a signature that the server itself has quoted; never a user's text."""
    return sql.SQL(words)


def joined(items: c.Iterable[Composable]) -> Composable:
    return sql.SQL(", ").join(items)


def script(commands: c.Iterable[Composable]) -> Composable:
    """Many statements for one round trip."""
    return sql.SQL("; ").join(commands)


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement and what may be shown of it.

    ``shown`` differs from ``command`` only where a password would be seen.
    """

    command: Composable
    shown: Composable

    @classmethod
    def plain(cls, command: Composable) -> Statement:
        return cls(command=command, shown=command)

    def __str__(self) -> str:
        return self.shown.as_string(None)
