# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures that give tests real PostgreSQL servers (see `tests/rig`).

A test that takes `major`, `shape` or `variant` runs once for each of them; which ones there are
is chosen with `--majors`, `--shapes`, `--variants`, or all of them with `--matrix`. Unless
something is chosen, a test that takes both `major` and `shape` runs on two servers that differ in both;
with `--others` on one server of each major that this leaves out.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

ROOT = str(Path(__file__).parents[1])
if ROOT not in sys.path:
    sys.path.insert(0, ROOT)

if TYPE_CHECKING:
    from tests.rig import Server, ShapedServer

SERVER = ("major", "shape", "variant")
ALL_MAJORS = "13,14,15,16,17,18"
ALL_SHAPES = "rds,azure"
ALL_VARIANTS = "stock,patched"
OLD, NEW = 15, 17
OTHERS = [(13, "rds", "patched"), (14, "azure", "stock"), (16, "azure", "patched"), (18, "rds", "stock")]
DEFAULTS = {"shape": ["rds", "azure"], "variant": ["stock"]}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that choose servers."""
    group = parser.getgroup("latchkey", "PostgreSQL servers to test against")
    group.addoption("--majors", help="major versions (default: one up to 15, one from 16 on)")
    group.addoption("--shapes", help=f"services (default: {ALL_SHAPES})")
    group.addoption("--variants", help="kinds of engine (default: stock)")
    group.addoption("--others", action="store_true", help="one server of each major that is not tried by default")
    group.addoption("--matrix", action="store_true", help="all majors, shapes and variants")
    group.addoption(
        "--thorough",
        action="store_true",
        help="also what takes minutes; many more random estates, hosts and kills; shrink failures",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test once per server it is to be tried against."""
    marked = {
        name.strip()
        for mark in metafunc.definition.iter_markers("parametrize")
        for name in (mark.args[0].split(",") if isinstance(mark.args[0], str) else mark.args[0])
    }
    wanted = [name for name in SERVER if name in metafunc.fixturenames and name not in marked]
    if wanted and metafunc.config.getoption("--others"):
        servers = [dict(zip(SERVER, other, strict=True)) for other in OTHERS]
        chosen_ones = dict.fromkeys(tuple(server[name] for name in wanted) for server in servers)
        metafunc.parametrize(wanted, list(chosen_ones))
        return
    if {"major", "shape"} <= set(wanted) and not any(map(metafunc.config.getoption, ("majors", "shapes", "matrix"))):
        metafunc.parametrize(("major", "shape"), list(zip(default_majors(), DEFAULTS["shape"][::-1], strict=True)))
        wanted.remove("major")
        wanted.remove("shape")
    for name in wanted:
        metafunc.parametrize(name, chosen(metafunc.config, name))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what takes minutes, unless it is asked for."""
    if config.getoption("--thorough"):
        return
    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        (left if item.get_closest_marker("thorough") else kept).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


def chosen(config: pytest.Config, name: str) -> list[Any]:
    """Return the majors, shapes or variants of this run."""
    everything = {"major": ALL_MAJORS, "shape": ALL_SHAPES, "variant": ALL_VARIANTS}[name]
    text = config.getoption(f"--{name}s")
    if not text and config.getoption("--matrix"):
        text = everything
    if not text:
        return list(default_majors()) if name == "major" else DEFAULTS[name]
    values = [value.strip() for value in text.split(",")]
    if strange := sorted(set(values) - set(everything.split(","))):
        msg = f"--{name}s: {', '.join(strange)} is none of {everything}"
        raise pytest.UsageError(msg)
    return [int(value) for value in values] if name == "major" else list(values)


@functools.cache
def default_majors() -> tuple[int, ...]:
    """Return the distribution's newest, one up to 15 and one from 16 on."""
    try:
        from tests.rig.binaries import distribution  # noqa: PLC0415
    except ImportError:
        return OLD, NEW
    local = distribution()
    first = local.major if local else NEW
    return tuple(sorted({first, OLD if first > OLD else NEW}))


@pytest.fixture
def shaped() -> Iterator[Callable[..., ShapedServer]]:
    """Start fresh servers: `shaped(major=16, shape="rds", variant="stock", settings={...})`."""
    with _starter() as start:
        yield start


@pytest.fixture(scope="module")
def shaped_once() -> Iterator[Callable[..., ShapedServer]]:
    """Start servers that the tests of a module share: one for each (major, shape, variant)."""
    running: dict[tuple[int, str, str], ShapedServer] = {}
    with _starter() as start:

        def get(*, major: int, shape: str, variant: str = "stock") -> ShapedServer:
            key = (major, shape, variant)
            if key not in running:
                running[key] = start(major=major, shape=shape, variant=variant)
            return running[key]

        yield get


@pytest.fixture
def server() -> Iterator[Callable[..., Server]]:
    """Start plain servers: `server(major=17, plain=True)`, with the arguments of `Server`."""
    rig = _rig()
    with contextlib.ExitStack() as stack:

        def start(*, major: int | None = None, **options: Any) -> Server:
            one: Server = rig.Server(binaries=rig.find(major), **options)
            return stack.enter_context(one)

        yield start


@contextlib.contextmanager
def _starter() -> Iterator[Callable[..., ShapedServer]]:
    rig = _rig()
    with contextlib.ExitStack() as stack:

        def start(**options: Any) -> ShapedServer:
            one: ShapedServer = rig.shaped_server(**options)
            return stack.enter_context(one)

        yield start


def _rig() -> Any:
    for name in ("psycopg", "trustme", "jinja2"):
        pytest.importorskip(name)
    import tests.rig  # noqa: PLC0415

    return tests.rig
