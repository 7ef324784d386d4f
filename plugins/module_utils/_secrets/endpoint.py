# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""What the name of an RDS endpoint says of the instance or cluster behind it."""

from __future__ import annotations

import re
from dataclasses import dataclass

# NAME.[KIND-]hash.REGION.rds.amazonaws.com; in China, and more and more elsewhere, rds comes before the region.
ENDPOINT = re.compile(
    r"(?P<name>[^.]+)\.(?P<kind>(?:cluster|cluster-ro|cluster-custom|proxy)-)?[a-z0-9]+"
    r"\.(?P<rds>rds\.)?(?P<region>[a-z]{2}(?:-[a-z]+)+-\d)\.(?(rds)|rds\.)amazonaws\.com(?:\.cn)?\.?",
    re.IGNORECASE,
)
CLUSTER, PRIVATE_NAME = ("cluster-", "cluster-ro-"), ("cluster-custom-", "proxy-")


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """``name`` is that of the instance or cluster; None where a proxy or custom endpoint has one of its own."""

    region: str
    name: str | None = None
    cluster: bool = False


def read_endpoint(host: str) -> Endpoint | None:
    """None for a name of the user's own."""
    found = ENDPOINT.fullmatch(host)
    if found is None:
        return None
    kind = (found["kind"] or "").lower()
    name = None if kind in PRIVATE_NAME else found["name"]
    return Endpoint(region=found["region"].lower(), name=name, cluster=kind in CLUSTER)
