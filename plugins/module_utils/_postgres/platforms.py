# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""The platforms as data: what belongs to each, so that no other file asks which one it is."""

from __future__ import annotations

import collections.abc as c
from dataclasses import dataclass

# Its members log in to RDS by an IAM token, and by nothing else.
RDS_IAM = "rds_iam"


@dataclass(frozen=True, kw_only=True)
class Platform:
    """What the operator of a managed service keeps for itself.

    Sources: the published role and database listings of both services ("Viewing roles", "Access management").
    """

    name: str
    # The role that the service gives its administrators; not a superuser.
    admin_group: str | None = None
    superusers: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    databases: frozenset[str] = frozenset({"template0"})
    schemas: frozenset[str] = frozenset({"cron"})
    # A parameter that only the service's own engine knows: there, members of the administrators' group may act as any
    # customer role although the catalog does not say so.
    engine_parameter: str | None = None
    ca_advice: str = "set ca_cert to the PEM file of the authority that signed the server's certificate"

    def owns_role(self, name: str) -> bool:
        """Whether this role is the platform's or PostgreSQL's own (``pg_`` is a reserved prefix)."""
        return name in self.superusers or name in self.roles or name == self.admin_group or name.startswith("pg_")


POSTGRES = Platform(name="postgres", schemas=frozenset())
RDS = Platform(
    name="rds",
    admin_group="rds_superuser",
    superusers=frozenset({"rdsadmin"}),
    roles=frozenset(
        f"rds_ad rds_extension {RDS_IAM} rds_password rds_replication rds_reserved"
        " rdsproxyadmin rdsrepladmin rdstopmgr".split()
    ),
    databases=frozenset({"template0", "rdsadmin"}),
    engine_parameter="rds.extensions",
    ca_advice=(
        "set ca_cert to the RDS bundle, https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem"
        " (or the file of your region)"
    ),
)
AZURE = Platform(
    name="azure",
    admin_group="azure_pg_admin",
    superusers=frozenset({"azuresu"}),
    roles=frozenset("azure_ad_admin azure_ad_mfa azure_ad_user azure_superuser replication".split()),
    databases=frozenset({"template0", "azure_sys", "azure_maintenance"}),
    engine_parameter="azure.extensions",
    ca_advice=(
        "set ca_cert to a PEM file with DigiCert Global Root G2 and Microsoft RSA Root Certificate Authority 2017,"
        " or install them in the system store"
    ),
)
BY_NAME = {platform.name: platform for platform in (RDS, AZURE, POSTGRES)}

# Of PostgreSQL's own roles those that give what a person may need for a time, and nothing to climb by.
HARMLESS = frozenset(
    "pg_read_all_data pg_write_all_data pg_monitor pg_read_all_stats pg_read_all_settings pg_stat_scan_tables"
    " pg_maintain pg_checkpoint pg_signal_backend pg_use_reserved_connections pg_create_subscription".split()
)


def owns_role(name: str) -> bool:
    """Whether it is a role of any platform: before the first session nobody knows which one it is."""
    return any(platform.owns_role(name) for platform in BY_NAME.values())


def detect(roles: c.Container[str]) -> Platform:
    """The platform whose administrators' group exists on the server."""
    return next((p for p in (RDS, AZURE) if p.admin_group in roles), POSTGRES)


def by_host(host: str) -> Platform:
    """The platform that a host name belongs to: all that is known before the first session."""
    suffixes = ((".rds.amazonaws.com", RDS), (".rds.amazonaws.com.cn", RDS), (".postgres.database.azure.com", AZURE))
    return next((platform for suffix, platform in suffixes if host.rstrip(".").endswith(suffix)), POSTGRES)
