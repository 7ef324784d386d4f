# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Secrets as readers take them: one client for each store, one fetch for each secret, in this process.

Nothing is kept longer or elsewhere than in the memory of the process. A writer goes to the store itself (`open_store`).
"""

from __future__ import annotations

import collections.abc as c
import functools
import os
import time
import typing as t
from concurrent.futures import ThreadPoolExecutor

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import SecretUnreadable
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Aws, Azure, Version

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Cloud, Reference, Store

Answer = t.Union[Version, SecretUnreadable]  # noqa: UP007  evaluated when the file is read

AT_ONCE = 8
# The session of an assumed role lasts an hour.
HALF_AN_HOUR = 1800
_known: dict[Reference, Version] = {}


def open_store(cloud: Cloud) -> Store:
    """The store's one client. A forked child gets its own: two processes must not talk over one connection."""
    assumed = isinstance(cloud, Aws) and cloud.assume_role_arn
    return _open(cloud, os.getpid(), int(time.monotonic() // HALF_AN_HOUR) if assumed else 0)


@functools.cache
def _open(cloud: Cloud, _process: int, _period: int) -> Store:
    # Imported by need: each of the two takes up to half a second to load, and few need both.
    if isinstance(cloud, Azure):
        from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import azure  # noqa: PLC0415

        return azure.open_store(cloud)
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import aws  # noqa: PLC0415

    return aws.open_store(cloud)


def read(reference: Reference, *, afresh: bool = False) -> Version:
    """Raises SecretUnreadable or one of its kind."""
    (answer,) = read_all([reference], afresh=afresh)
    if isinstance(answer, SecretUnreadable):
        raise answer
    return answer


def read_all(references: c.Sequence[Reference], *, afresh: bool = False) -> list[Answer]:
    """What each has, or why it has nothing, in the order asked. Several are fetched at once."""
    if afresh:
        for one in references:
            _known.pop(one, None)
    wanted = [one for one in dict.fromkeys(references) if one not in _known]
    answers = _fetch_all(wanted)
    _known.update({one: answer for one, answer in answers.items() if isinstance(answer, Version)})
    return [answers.get(one) or _known[one] for one in references]


def _fetch_all(references: c.Sequence[Reference]) -> dict[Reference, Answer]:
    """The first of each store by itself, which makes the client and gets its token; the others share both."""
    firsts = list({one.cloud: one for one in reversed(references)}.values())
    others = [one for one in references if one not in firsts]
    with ThreadPoolExecutor(max_workers=AT_ONCE) as pool:
        answers = [*pool.map(_fetch, firsts), *pool.map(_fetch, others)]
    return dict(zip([*firsts, *others], answers, strict=True))


def _fetch(reference: Reference) -> Answer:
    try:
        return open_store(reference.cloud).read(reference.name, stage=reference.stage, version=reference.version)
    except SecretUnreadable as error:
        return error
