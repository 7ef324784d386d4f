# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Part E: many secrets in one task, from a store that takes its time."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator

from tests.bench.others import collection, version
from tests.bench.playbooks import Playbook
from tests.bench.product import COLLECTIONS
from tests.bench.results import Row, Samples, Settings
from tests.fakes import FakeSecretsManager

AMAZON = "amazon/aws"
SECRETS = 40
# A round trip to a store in the same region, seconds.
LATENCY = 0.02


def measure(settings: Settings) -> Iterator[Row]:
    """Yield one row."""
    try:
        where = collection(AMAZON)
    except (OSError, subprocess.CalledProcessError, StopIteration) as error:
        yield Row(part="E", what="secrets in one task", note=f"not measured: no wheel ({error})")
        return
    names = [f"secret-{number:02}" for number in range(max(SECRETS // settings.scale, 2))]
    samples = Samples()
    with FakeSecretsManager() as store:
        fill(store, names)
        store.delay = LATENCY
        books = {
            "ours": playbook(store, f"query('latchkey.postgres.aws_pg_secret', {_terms(names)})", COLLECTIONS),
            "theirs": playbook(store, f"query('amazon.aws.secretsmanager_secret', {_terms(names)})", str(where)),
        }
        for _run in range(settings.cheap_runs):
            samples.add("start", books["ours"].start())
            for name, book in books.items():
                samples.add(name, book.run(changed=False))
    yield Row(
        part="E",
        what=f"{len(names)} secrets in one task: aws_pg_secret",
        against=f"amazon.aws {version(where, AMAZON)}, secretsmanager_secret",
        ours=samples.of("ours"),
        theirs=samples.of("theirs"),
        note=(
            f"wall time of ansible-playbook, of which its start is {samples.median('start'):.3f} s;"
            f" each answer takes {LATENCY * 1000:.0f} ms"
        ),
    )


def fill(store: FakeSecretsManager, names: list[str]) -> None:
    """Make the secrets."""
    for name in names:
        text = json.dumps({"username": "u", "password": name})
        store.create({"Name": name, "SecretString": text, "ClientRequestToken": str(uuid.uuid4())})


def playbook(store: FakeSecretsManager, expression: str, collections: str) -> Playbook:
    """Return a play of one task that needs all of them."""
    task = {"ansible.builtin.assert": {"that": [f"{expression} | length > 1"]}, "no_log": True}
    # The SDK has a variable of its own for the region.
    environment = {**store.environment(), "AWS_DEFAULT_REGION": "eu-west-1"}
    return Playbook(tasks=[task], hosts={"host": {}}, collections=collections, environment=environment)


def _terms(names: list[str]) -> str:
    return ", ".join(map(repr, names))
