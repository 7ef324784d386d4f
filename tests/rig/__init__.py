# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real PostgreSQL servers for tests: throw-away, TLS only, shaped like the managed services."""

from __future__ import annotations

from tests.rig.binaries import MAJORS, Binaries, find
from tests.rig.certificates import Authority
from tests.rig.coverage import Coverage, coverage, coverage_by_kind
from tests.rig.errors import RigError
from tests.rig.faults import Proxy, hold_connections, open_ddl
from tests.rig.server import Server
from tests.rig.shapes import SHAPES, VARIANTS, Shape, ShapedServer, shaped_server
from tests.rig.vendor import vendor_coverage, vendor_databases, vendor_objects, vendor_role

__all__ = [
    "MAJORS",
    "SHAPES",
    "VARIANTS",
    "Authority",
    "Binaries",
    "Coverage",
    "Proxy",
    "RigError",
    "Server",
    "Shape",
    "ShapedServer",
    "coverage",
    "coverage_by_kind",
    "find",
    "hold_connections",
    "open_ddl",
    "shaped_server",
    "vendor_coverage",
    "vendor_databases",
    "vendor_objects",
    "vendor_role",
]
