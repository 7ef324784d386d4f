# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is loaded, and when: each host is worked on in a new process, which must not pay for what it does not need."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
UTILS = "ansible_collections.latchkey.postgres.plugins"
MODULES = ["pg_access_grant", "pg_access_info", "pg_access_sweep", "pg_apono_bootstrap", "pg_rotate_credentials"]
PLUGINS = [
    *(f"{kind}.{module}" for kind in ("modules", "action") for module in MODULES),
    "lookup.aws_pg_secret",
    "lookup.azure_pg_token",
]


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_plugin_loads_no_sdk_of_a_cloud_before_it_needs_one(plugin: str) -> None:
    found = "[name for name in ('boto3', 'botocore', 'azure.identity') if name in sys.modules]"
    assert python(f"import sys, {UTILS}.{plugin}; print({found})") == "[]"


@pytest.mark.parametrize(
    ("library", "store"),
    [
        ("boto3", "Aws(region='eu-west-1')"),
        ("azure.identity", "Azure(vault_url='https://a.vault.azure.net')"),
        ("azure.keyvault.secrets", "Azure(vault_url='https://a.vault.azure.net')"),
    ],
)
def test_a_missing_sdk_is_named_when_it_is_needed(library: str, store: str) -> None:
    """An entry of None in sys.modules makes an import fail."""
    said = python(
        f"""
import sys
sys.modules['{library}'] = None
from {UTILS}.module_utils._errors import LibraryMissing
from {UTILS}.module_utils._secrets import access
from {UTILS}.module_utils._secrets.values import Aws, Azure
try:
    access.open_store({store})
except LibraryMissing as error:
    print(error)
"""
    )
    assert said.startswith("Failed to import the required Python library"), said
    assert library.replace(".", "-").removesuffix("-secrets") in said


def python(text: str) -> str:
    """What a script prints."""
    done = subprocess.run(
        [sys.executable, "-c", text],
        env={"PYTHONPATH": str(ROOT / ".venv" / "collections"), "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()
