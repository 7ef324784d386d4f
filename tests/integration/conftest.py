# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for tests that are clients of the clouds in this very process."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access
from tests.fakes import FakeAzure, FakeSecretsManager, clean_environment
from tests.integration.ansible_runs import VAULT, Project

Enter = Callable[[dict[str, str]], None]


@pytest.fixture
def forgotten() -> Iterator[None]:
    """Nothing is known from another test, to us or to the SDK."""
    challenges = pytest.importorskip("azure.keyvault.secrets._shared").http_challenge_cache

    def forget() -> None:
        access._open.cache_clear()
        access._known.clear()
        challenges.clear()

    forget()
    yield
    forget()


@pytest.fixture
def enter(tmp_path: Path) -> Iterator[Enter]:
    """Set the environment: these variables, and none of the user's clouds, tools and files."""
    with contextlib.ExitStack() as stack:

        def set_to(variables: dict[str, str]) -> None:
            clean = {**clean_environment(os.environ), "PATH": str(tmp_path), "HOME": str(tmp_path)}
            stack.enter_context(mock.patch.dict(os.environ, {**clean, **variables}, clear=True))

        yield set_to


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A place to run playbooks from, with both clouds' stores."""
    with FakeSecretsManager() as aws, FakeAzure() as azure:
        azure.add_vault(VAULT)
        yield Project(path=tmp_path, aws=aws, azure=azure)


@pytest.fixture
def unique() -> str:
    """Part of the names of one test."""
    return uuid.uuid4().hex[:8]
