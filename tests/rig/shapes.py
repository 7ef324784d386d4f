# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers shaped like the managed services, started from a copy of a cached data directory."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.rig import sqlfiles
from tests.rig.binaries import Binaries, find
from tests.rig.errors import RigError
from tests.rig.places import Account, cache_root, copy_tree, locked
from tests.rig.server import Server, Setting

if TYPE_CHECKING:
    import psycopg

VARIANTS = ("stock", "patched")
ADMIN = "cloudadmin"
SECOND_ADMIN = "cloudadmin2"
PASSWORDS: Mapping[str, str] = {
    ADMIN: "cloudadmin",
    SECOND_ADMIN: "cloudadmin2",
    **dict.fromkeys(("app_alpha", "app_beta", "app_gamma", "app_fellow"), "app"),
}
KEEP_UNUSED = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What a test must know about a service."""

    name: str
    superuser: str
    group: str
    platform_databases: tuple[str, ...]
    hba: tuple[str, ...] = ()
    admin: str = ADMIN
    second_admin: str = SECOND_ADMIN


AZURE = Shape(
    name="azure",
    superuser="azuresu",
    group="azure_pg_admin",
    platform_databases=("azure_sys", "azure_maintenance"),
)
RDS = Shape(
    name="rds",
    superuser="rdsadmin",
    group="rds_superuser",
    platform_databases=("rdsadmin",),
    hba=("host rdsadmin +rds_superuser all reject",),
)
SHAPES: Mapping[str, Shape] = {shape.name: shape for shape in (RDS, AZURE)}


@dataclass(kw_only=True, eq=False)
class ShapedServer(Server):
    """A server with the roles, databases and ownerships of a managed service."""

    shape: Shape = field(default=RDS)
    variant: str = VARIANTS[0]

    @property
    def admin(self) -> str:
        """Return the name of the administrator, which is no superuser."""
        return self.shape.admin

    @property
    def group(self) -> str:
        """Return the name of the platform's administrator group."""
        return self.shape.group

    def connect_admin(
        self, *, dbname: str = "postgres", autocommit: bool = True
    ) -> psycopg.Connection[tuple[Any, ...]]:
        """Connect as the administrator."""
        return self.connect(user=self.admin, dbname=dbname, autocommit=autocommit)


def shaped_server(
    *,
    major: int | None = None,
    shape: str = RDS.name,
    variant: str = VARIANTS[0],
    settings: Mapping[str, Setting] | None = None,
    hba: Iterable[str] = (),
    plain: bool = False,
) -> ShapedServer:
    """Return a server of that shape, to be used in a `with` block."""
    if shape not in SHAPES or variant not in VARIANTS:
        msg = f"unknown shape {shape}/{variant}: {', '.join(SHAPES)} / {', '.join(VARIANTS)}"
        raise RigError(msg)
    template = Template(binaries=find(major), shape=SHAPES[shape], variant=variant)
    password = template.ensure()
    return ShapedServer(
        binaries=template.binaries,
        superuser=template.shape.superuser,
        password=password,
        passwords=dict(PASSWORDS),
        settings=settings or {},
        hba=(*template.shape.hba, *hba),
        plain=plain,
        seed=template.copy_to,
        shape=template.shape,
        variant=variant,
    )


@dataclass(frozen=True, kw_only=True)
class Template:
    """A built data directory in the cache."""

    binaries: Binaries
    shape: Shape
    variant: str

    @property
    def path(self) -> Path:
        """Return its place, which names all it depends on."""
        builder = hashlib.sha256()
        for source in ("shapes.py", "server.py", "sqlfiles.py"):
            builder.update(Path(__file__).with_name(source).read_bytes())
        builder.update(str(self.binaries.bindir).encode() + sqlfiles.digest().encode())
        who = Account.current().uid
        series = f"{self.binaries.version}-{self.shape.name}-{self.variant}-{who}"
        return self._base() / f"{series}-{builder.hexdigest()[:12]}"

    def ensure(self) -> str:
        """Build it unless it is there; return the superuser's password."""
        path = self.path
        with locked(path.parent / f".lock-{self.binaries.major}-{self.shape.name}-{self.variant}"):
            if not path.is_dir():
                _evict(path.parent)
                self._build(path)
        os.utime(path)
        return (path / "password").read_text()

    def copy_to(self, data: Path) -> None:
        """Fill a data directory."""
        copy_tree(self.path / "data", data)

    def _build(self, path: Path) -> None:
        server = Server(
            binaries=self.binaries,
            superuser=self.shape.superuser,
            password=secrets.token_urlsafe(12),
            settings={"wal_recycle": False},
        )
        with server, tempfile.TemporaryDirectory(dir=path.parent, prefix=".build-") as scratch:
            sqlfiles.run(
                server,
                f"{self.shape.name}_shape.sql",
                major=self.binaries.major,
                patched=self.variant == "patched",
                admin=self.shape.admin,
                admin2=self.shape.second_admin,
                platform_admin=self.shape.group,
            )
            # leave no old write-ahead log behind: it would be copied each time
            with server.connect() as conn:
                conn.execute("CHECKPOINT")
            server.pause()
            fresh = Path(scratch) / "fresh"
            (fresh / "data").mkdir(parents=True)
            copy_tree(server.data, fresh / "data")
            (fresh / "password").touch(mode=0o600)
            (fresh / "password").write_text(server.password)
            fresh.rename(path)

    @staticmethod
    def _base() -> Path:
        base = cache_root() / "templates"
        base.mkdir(mode=0o700, exist_ok=True)
        return base


def _evict(base: Path) -> None:
    """Remove what nobody has used for a day."""
    for path in base.iterdir():
        if path.is_dir() and time.time() - path.stat().st_mtime > KEEP_UNUSED:
            shutil.rmtree(path, ignore_errors=True)
