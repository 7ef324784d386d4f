# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The rig itself: what tests elsewhere rely on, proved by its effects."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

psycopg = pytest.importorskip("psycopg")
pytest.importorskip("trustme")

from tests.rig import (  # noqa: E402
    Authority,
    Coverage,
    Proxy,
    RigError,
    Server,
    ShapedServer,
    coverage,
    find,
    hold_connections,
    open_ddl,
    sqlfiles,
    vendor_coverage,
    vendor_databases,
    vendor_objects,
    vendor_role,
)
from tests.rig.home import reap  # noqa: E402
from tests.rig.places import runtime_root  # noqa: E402

ROOT = Path(__file__).parents[3]
StartServer = Callable[..., Server]
StartShaped = Callable[..., ShapedServer]

ABANDONED = """
import json, os, sys, time
from pathlib import Path
from tests.rig import Binaries, Server
binaries = Binaries.at(Path(sys.argv[1]))
with Server(binaries=binaries) as server:
    with server.connect() as conn:
        tls = conn.execute("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()").fetchone()
    print(json.dumps({"home": str(server.home), "port": server.port, "tls": tls[0],
                      "pid": int((server.data / "postmaster.pid").read_text().splitlines()[0]),
                      "watcher": server._watcher.pid, "uid": os.getuid()}), flush=True)
    if sys.argv[2] == "wait":
        time.sleep(600)
"""


def _alive(pid: int) -> bool:
    """Zombies, which nobody may be there to collect, do not count."""
    said = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return bool(said.stdout.strip()) and not said.stdout.strip().startswith("Z")


def _gone(check: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while check() and time.monotonic() < deadline:
        time.sleep(0.05)
    return not check()


# ------------------------------------------------------------------------------ connections


def test_login_is_encrypted_and_verified(server: StartServer, major: int) -> None:
    one = server(major=major)
    with one.connect() as conn:
        row = conn.execute(
            "SELECT ssl, current_setting('server_version_num')::int / 10000"
            "  FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        ).fetchone()
        verifiers = conn.execute("SELECT rolpassword FROM pg_authid WHERE rolpassword > ''")
        assert all(verifier.startswith("SCRAM-SHA-256$") for (verifier,) in verifiers)
    assert row == (True, major)
    assert "sslmode=verify-full" in one.dsn()


def test_refusals(server: StartServer, tmp_path: Path) -> None:
    one = server()
    stranger = Authority().write_ca(tmp_path / "other.pem")
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"sslmode": "disable"}, "no pg_hba.conf entry"),
        ({"sslrootcert": str(stranger)}, "certificate verify failed"),
        ({"password": "wrong"}, "password authentication failed"),
        ({"host": "ip6-loopback", "hostaddr": "127.0.0.1"}, "does not match host name"),
    )
    for parameters, reason in cases:
        with pytest.raises(psycopg.OperationalError, match=reason):
            one.connect(**parameters)


def test_plain_and_settings_and_hba(server: StartServer) -> None:
    one = server(
        plain=True,
        settings={"log_statement": "all", "max_connections": 12},
        hba=["hostssl template1 all all reject"],
    )
    with one.connect(sslmode="disable") as conn:
        conn.execute("SELECT 'it''s logged'")
    assert "it''s logged" in one.log.read_text()
    with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf rejects"):
        one.connect(dbname="template1")
    with hold_connections(one, 12), pytest.raises(psycopg.OperationalError, match="too many"):
        one.connect()


def test_restart_keeps_data_and_port(server: StartServer) -> None:
    one = server()
    with one.connect() as conn:
        conn.execute("CREATE TABLE kept AS SELECT 1 AS id")
    port = one.port
    one.restart(max_connections=15)
    with one.connect() as conn:
        assert conn.execute("SELECT id FROM kept").fetchone() == (1,)
        assert conn.execute("SHOW max_connections").fetchone() == ("15",)
    assert one.port == port


def test_several_at_once(server: StartServer) -> None:
    assert len({server().port for dummy in range(3)}) == 3


def test_standby_follows_and_is_read_only(server: StartServer, major: int) -> None:
    primary = server(major=major)
    with primary.standby() as standby, primary.connect() as conn:
        conn.execute("CREATE TABLE seen AS SELECT 7 AS id")
        standby.wait_for(primary)
        with standby.connect() as reader:
            assert reader.execute("SELECT id FROM seen").fetchone() == (7,)
            with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
                reader.execute("INSERT INTO seen VALUES (8)")


# --------------------------------------------------------------------------------- clean up


@pytest.mark.parametrize("failure", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_failing_block_leaves_nothing(failure: type[BaseException]) -> None:
    seen: list[Path] = []
    with pytest.raises(failure), Server() as one:  # noqa: PT012
        seen.append(one.home)
        raise failure
    assert not seen[0].exists()


def test_failing_start_leaves_nothing_and_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        Path(scratch).chmod(0o755)
        # A place of its own: other tests start servers at the same moment.
        monkeypatch.setenv("TMPDIR", scratch)
        monkeypatch.setattr(tempfile, "tempdir", None)
        with pytest.raises(RigError, match="shared_buffers"), Server(settings={"shared_buffers": "a lot"}):
            pass
        assert runtime_root().is_relative_to(scratch)
        assert not _homes()


def _homes() -> set[Path]:
    return {path for path in runtime_root().iterdir() if path.is_dir()}


def _abandon() -> tuple[subprocess.Popen[str], dict[str, Any]]:
    owner = subprocess.Popen(
        [sys.executable, "-c", ABANDONED, str(find().bindir), "wait"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    return owner, json.loads(owner.stdout.readline())


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_killed_owner_leaves_nothing(kind: signal.Signals) -> None:
    owner, facts = _abandon()
    owner.send_signal(kind)
    owner.communicate()
    assert _gone(lambda: _alive(int(facts["pid"])))
    assert _gone(Path(facts["home"]).exists)


def test_killed_owner_and_watcher_are_cleared_by_the_next_start() -> None:
    owner, facts = _abandon()
    os.kill(int(facts["watcher"]), signal.SIGKILL)
    owner.kill()
    owner.communicate()
    assert _alive(int(facts["pid"]))
    with Server():
        assert not _alive(int(facts["pid"]))
        assert not Path(facts["home"]).exists()


def test_reap_spares_the_living(server: StartServer) -> None:
    one = server()
    reap(one.home.parent)
    with one.connect() as conn:
        assert conn.execute("SELECT 1").fetchone() == (1,)


def test_ordinary_user() -> None:
    if os.geteuid() != 0:
        pytest.skip("every other test of this run is that test already")
    nobody = pwd.getpwnam("nobody")
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    paths = [str(ROOT), *(path for path in sys.path if path.endswith("site-packages"))]
    with tempfile.TemporaryDirectory() as scratch:
        shutil.chown(scratch, nobody.pw_uid, nobody.pw_gid)
        run = {
            "user": nobody.pw_uid,
            "group": nobody.pw_gid,
            "extra_groups": [],
            "cwd": "/",
            "env": {"PATH": os.environ["PATH"], "TMPDIR": scratch, "PYTHONPATH": ":".join(paths)},
            "capture_output": True,
            "text": True,
        }
        for python in (sys.executable, f"/usr/bin/python{version}"):
            try:
                probe = subprocess.run([python, "-c", "import tests.rig"], check=False, **run)  # type: ignore[call-overload]
            except OSError:
                continue
            if probe.returncode == 0:
                break
        else:
            pytest.skip("nobody can read neither a Python of this version nor its packages")
        bindir = str(find().bindir)
        done = subprocess.run([python, "-c", ABANDONED, bindir, "go"], check=False, **run)  # type: ignore[call-overload]
        assert done.returncode == 0, done.stderr
        assert json.loads(done.stdout)["uid"] == nobody.pw_uid
        assert not [path for path in Path(scratch).glob("*/*") if path.is_dir()]


# ----------------------------------------------------------------------------------- shapes


def test_sections_and_statements() -> None:
    text = textwrap.dedent("""\
        SELECT 'a;b'; SELECT 2;
        -- @database "A ""b"" ;--"
        CREATE TABLE "x;--"
          (id int);
    """)
    assert list(sqlfiles.sections(text)) == [
        ("postgres", ["SELECT 'a;b'; SELECT 2;"]),
        ('A "b" ;--', ['CREATE TABLE "x;--"\n  (id int);']),
    ]


def test_shape(shaped_once: StartShaped, major: int, shape: str, variant: str) -> None:
    one = shaped_once(major=major, shape=shape, variant=variant)
    assert coverage(one, one.admin, "appdb_open").total == 195
    assert coverage(one, one.admin, "appdb_hard").total == 23
    with one.connect_admin() as conn:
        assert conn.execute("SHOW is_superuser").fetchone() == ("off",)
        invalid = conn.execute("SELECT datname FROM pg_database WHERE datconnlimit = -2").fetchall()
    assert invalid == [("invalid_db",)]
    for dbname, reason in (("locked_db", "permission denied"), ("noconn_db", "not currently")):
        with pytest.raises(psycopg.OperationalError, match=reason):
            one.connect_admin(dbname=dbname)
    one.connect_admin(dbname='App "DB" é;--').close()


def test_rds_platform_database_is_rejected(shaped_once: StartShaped, major: int) -> None:
    one = shaped_once(major=major, shape="rds")
    with pytest.raises(psycopg.OperationalError, match=r"pg_hba\.conf rejects connection"):
        one.connect_admin(dbname="rdsadmin")
    one.connect(dbname="rdsadmin").close()


def test_shaped_standby(shaped: StartShaped, major: int, shape: str) -> None:
    primary = shaped(major=major, shape=shape)
    with primary.standby() as standby, standby.connect(user=primary.admin) as conn:
        assert conn.execute("SELECT pg_is_in_recovery()").fetchone() == (True,)


# ----------------------------------------------------------------------------------- vendor


def expected(major: int, shape: str, variant: str) -> Coverage:
    """Return what was measured when the approach was researched, by hand and with psql."""
    if (shape, variant) == ("azure", "stock"):
        counts = (25, 1, 1) if major == 13 else (195, 31, 41)
    elif (shape, variant) == ("rds", "stock"):
        counts = {13: (25, 1, 0), 14: (25, 1, 0), 15: (195, 96, 40)}.get(major, (25, 0, 0))
    elif shape == "rds" and major >= 15:
        counts = (195, 118, 142)
    else:
        counts = (195 if shape == "azure" and major >= 14 else 173, 107, 142)
    return Coverage(total=195, readable=counts[0], writable=counts[1], grantable=counts[2])


def test_vendor_coverage(shaped_once: StartShaped, major: int, shape: str, variant: str) -> None:
    one = shaped_once(major=major, shape=shape, variant=variant)
    assert vendor_coverage(one, "appdb_open") == expected(major, shape, variant)
    with one.connect() as conn:
        assert not conn.execute("SELECT FROM pg_roles WHERE rolname ~ 'apono'").fetchall()


def test_vendor_steps(shaped: StartShaped) -> None:
    one = shaped(major=15, shape="azure")
    with one.connect_admin() as conn:
        vendor_role(conn, group=one.group)
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="locked_db"):
            vendor_databases(conn, one.group)
    with one.connect_admin(dbname="admindb") as conn:
        vendor_objects(conn, one.group)
    with one.connect_admin(dbname="template1") as conn:
        vendor_objects(conn, one.group)
    with one.connect(user="apono_connector", password="connector", dbname="admindb") as conn:
        conn.execute("SELECT FROM admin_s.t_plain")


# ----------------------------------------------------------------------------------- faults


def test_proxy_passes_and_cuts(server: StartServer) -> None:
    one = server(plain=True)
    with Proxy(port_behind=one.port, refuse=True) as proxy:
        with one.connect(port=proxy.port) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)
            proxy.cut()
            with pytest.raises(psycopg.OperationalError):
                conn.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            one.connect(port=proxy.port)


def test_proxy_cuts_by_itself(server: StartServer) -> None:
    one = server(plain=True)
    with Proxy(port_behind=one.port, pattern=b"DROP TABLE") as proxy:
        conn = one.connect(port=proxy.port, sslmode="disable")
        conn.execute("CREATE TABLE survivor ()")
        with pytest.raises(psycopg.OperationalError):
            conn.execute("DROP TABLE survivor")
        assert proxy.was_cut.is_set()
    with Proxy(port_behind=one.port) as counter, one.connect(port=counter.port) as conn:
        writes = counter.writes
    with Proxy(port_behind=one.port, after=writes + 1) as proxy:
        conn = one.connect(port=proxy.port)
        # Not at once: the handshake's writes may reach the proxy in fewer pieces than they did before.
        with pytest.raises(psycopg.OperationalError):
            _ask_often(conn)
    with one.connect() as conn:
        conn.execute("TABLE survivor")


def _ask_often(conn: psycopg.Connection[Any]) -> None:
    for _time in range(10):
        conn.execute("SELECT 1")


def test_open_ddl_is_in_the_way(server: StartServer) -> None:
    one = server()
    with one.connect() as conn:
        conn.execute("CREATE TABLE busy (id int)")
        conn.execute("SET lock_timeout = '100ms'")
        waits = pytest.raises(psycopg.errors.LockNotAvailable)
        with open_ddl(one, "postgres", "public.busy"), waits:
            conn.execute("SELECT FROM busy")
        columns = conn.execute("SELECT * FROM busy").description
    assert columns is not None
    assert [column.name for column in columns] == ["id"]
