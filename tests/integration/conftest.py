# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fixtures for tests that are clients of the clouds in this very process."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access
from tests.fakes import clean_environment

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
