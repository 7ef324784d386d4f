# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that reads a secret as its store documents it and logs in with that, again and again.

A line of JSON names the secret, or null to stop; the answer to that is what all attempts came to.
"""

from __future__ import annotations

import json
import select
import sys
import time
from collections.abc import Callable
from typing import Any

import psycopg

PAUSE = 0.01


def reading(store: dict[str, str]) -> Callable[[str], str]:
    """Return what reads a secret, with the SDK and no more."""
    if store["provider"] == "azure":
        from azure.identity import EnvironmentCredential  # noqa: PLC0415 - only where it is of use
        from azure.keyvault.secrets import SecretClient  # noqa: PLC0415

        vault = SecretClient(store["vault_url"], EnvironmentCredential())
        return lambda name: str(vault.get_secret(name).value)
    import boto3  # noqa: PLC0415

    client = boto3.client("secretsmanager", region_name=store["region"])
    return lambda name: str(client.get_secret_value(SecretId=name)["SecretString"])


def attempt(read: Callable[[str], str], secret: str, server: dict[str, Any]) -> dict[str, Any]:
    """Read and log in once."""
    begin = asked = time.monotonic()
    error = None
    try:
        found = json.loads(read(secret))
        asked = time.monotonic()
        psycopg.connect(**server, user=found["username"], password=found["password"]).close()
    except Exception as caught:  # noqa: BLE001 - whatever it is, the reader has not got in
        error = f"{type(caught).__name__}: {caught}".splitlines()[0]
    return {"begin": begin, "asked": asked, "end": time.monotonic(), "error": error}


def main() -> None:
    """Obey until nobody is there to give orders."""
    first = json.loads(sys.stdin.readline())
    read, server = reading(first["store"]), first["server"]
    print(flush=True)
    secret: str | None = None
    attempts: list[dict[str, Any]] = []
    while True:
        if secret is None or select.select([sys.stdin], [], [], PAUSE)[0]:
            line = sys.stdin.readline()
            if not line:
                return
            before, secret = secret, json.loads(line)["secret"]
            attempts = [] if before is None else attempts
            attempts.append(attempt(read, str(secret or before), server))
            print(json.dumps(None if secret else attempts), flush=True)
        else:
            attempts.append(attempt(read, secret, server))


if __name__ == "__main__":
    main()
