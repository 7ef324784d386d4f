# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the SQL of `tests/cloudshape`; its README says how those files are read."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

if TYPE_CHECKING:
    from tests.rig.server import Server

DIRECTORY = Path(__file__).parents[1] / "cloudshape"
FIRST_DATABASE = "postgres"


def digest() -> str:
    """Return a hash of all the SQL files."""
    whole = hashlib.sha256()
    for path in sorted(DIRECTORY.glob("*.sql")):
        whole.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return whole.hexdigest()


def run(server: Server, name: str, **variables: object) -> None:
    """Render a template and run it, section by section, as the superuser."""
    for database, statements in sections(render(name, **variables)):
        with server.connect(dbname=database) as conn:
            for statement in statements:
                conn.execute(statement.encode())


def render(name: str, **variables: object) -> str:
    """Fill in a template."""
    environment = jinja2.Environment(  # noqa: S701 (this is SQL: nothing to escape for HTML)
        loader=jinja2.FileSystemLoader(DIRECTORY),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["ident"] = quoted
    return environment.get_template(name).render(**variables)


def quoted(name: str) -> str:
    """Quote an identifier."""
    return '"' + name.replace('"', '""') + '"'


def sections(text: str) -> Iterator[tuple[str, list[str]]]:
    """Split into databases and statements."""
    parts = re.split(r"^-- @database (.+)\n", f"-- @database {FIRST_DATABASE}\n{text}", flags=re.M)
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        statements = re.split(r"(?<=;)[ \t]*$", body, flags=re.M)
        yield _unquoted(name.strip()), [one for one in statements if one.strip()]


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name
