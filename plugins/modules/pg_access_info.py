#!/usr/bin/python

# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_access_info
short_description: Tell who can do what on a PostgreSQL server until when
version_added: 1.0.0
description:
  - Reads the requests of M(latchkey.postgres.pg_access_grant) from PostgreSQL's catalog, with the logins, profiles and
    sessions behind them, what is overdue, and what others have changed by hand.
  - On request also tells what could be asked for, what every login has by C(PUBLIC), and what the journal says.
  - Changes nothing, takes no transaction id, and works on a standby too.
  - Works as any login that may read the catalog. What a login may not see is left out or V(null), and the task does not
    fail for it.
  - Costs the same few queries whatever the number of requests; O(inventory) and O(public) add one session for each
    database.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: none
    details: There is nothing that it could change.
  idempotent:
    support: full
options:
  grantee:
    description:
      - Only what concerns this person, by the grantee's name in the requests.
    type: str
  request_id:
    description:
      - Only what concerns this request.
    type: str
  journal:
    description:
      - Also read the journal, in RV(journal). By default the connector may read it, and nobody else.
    type: bool
    default: false
  journal_days:
    description:
      - How many days to look back in the journal, 0 to 36500.
    type: int
    default: 30
  public:
    description:
      - Also tell what C(PUBLIC) gives to every login, in RV(public). No request can take that away;
        O(latchkey.postgres.pg_apono_bootstrap#module:harden_public) can.
      - Privileges on columns and types, on objects of extensions such as their routines, and the default privileges
        that give C(PUBLIC) something on what is made later are not listed.
    type: bool
    default: false
  inventory:
    description:
      - Also tell what can be asked for, in RV(inventory). It is what O(login_user) could give, so log in as the
        connector.
    type: bool
    default: false
  inventory_objects:
    description:
      - Whether RV(inventory) lists tables and routines, or only databases, schemas and roles.
    type: bool
    default: true
  databases:
    description:
      - Shell patterns of the databases to look into for O(inventory) and O(public). A pattern that matches none is an
        error. The platform's own databases are left alone.
    type: list
    elements: str
    default: ['*']
extends_documentation_fragment:
  - latchkey.postgres._attributes
  - latchkey.postgres._login
author:
  - Latchkey contributors (@latchkey-collection)
seealso:
  - module: latchkey.postgres.pg_access_grant
  - module: latchkey.postgres.pg_access_sweep
"""

EXAMPLES = r"""
- name: See who has access
  latchkey.postgres.pg_access_info:
    login_host: orders.abc123.eu-west-1.rds.amazonaws.com
    login_secret: apono/orders
    secret_store:
      provider: aws
      region: eu-west-1
    ca_cert: /etc/ssl/rds/global-bundle.pem
  register: access

- name: Raise an alarm if anything is open that should be shut
  ansible.builtin.assert:
    that: access.overdue | length == 0
    fail_msg: "{{ access.overdue | map(attribute='what') | join(', ') }}"

- name: See what one person has, and what was done for them in a year
  latchkey.postgres.pg_access_info:
    login_host: billing.postgres.database.azure.com
    login_secret: apono-billing
    secret_store:
      provider: azure
      vault_url: https://acme.vault.azure.net
    grantee: ada@example.org
    journal: true
    journal_days: 365

- name: List what can be asked for in some databases, without their tables
  latchkey.postgres.pg_access_info:
    login_host: orders.abc123.eu-west-1.rds.amazonaws.com
    login_user: apono_connector
    login_password: "{{ connector_password }}"
    ca_cert: /etc/ssl/rds/global-bundle.pem
    inventory: true
    inventory_objects: false
    databases: ["orders*"]
"""

RETURN = r"""
now:
  description: The server's time, by which everything here is judged.
  returned: success
  type: str
  sample: "2030-01-31T12:00:00Z"
server:
  description: The server that was met.
  returned: success
  type: dict
  contains:
    host:
      description: Its address and port.
      type: str
      sample: orders.postgres.database.azure.com:5432
    version:
      description: Its version.
      type: str
      sample: "16.4"
    platform:
      description: C(rds), C(azure) or C(postgres).
      type: str
      sample: azure
    login:
      description: The role that the task worked as.
      type: str
      sample: apono_connector
    standby:
      description: Whether it is a standby.
      type: bool
grants:
  description: The requests that give access now, and those whose time is over and that no sweep has ended yet.
  returned: success
  type: list
  elements: dict
  contains:
    role:
      description: The role that is the request.
      type: str
      sample: latchkey_g_0a1b2c3d4e5f6071
    request_id:
      description: The request; null if somebody has changed the role's comment.
      type: str
      sample: OPS-4711
    grantee:
      description: The person.
      type: str
      sample: ada@example.org
    login:
      description: The role that the person logs in as.
      type: str
      sample: ada_example_org_8f434346
    by:
      description: Who approved it, if that was told.
      type: str
    start:
      description: When it was first given.
      type: str
      sample: "2030-01-31T12:00:00Z"
    expires_at:
      description: When it ends; null if somebody has taken its end away, which makes it overdue.
      type: str
      sample: "2030-01-31T16:00:00Z"
    overdue:
      description: Whether its time is over.
      type: bool
    access:
      description: What it gives.
      type: list
      elements: dict
      contains:
        database:
          description: The database; null for a membership in a role.
          type: str
        permission:
          description: C(READ_ONLY), C(READ_WRITE), C(ADMIN) or C(EXECUTE); null for a membership in a role.
          type: str
        schemas:
          description: Shell patterns of the schemas.
          type: list
          elements: str
        objects:
          description: Shell patterns of the tables or, with C(EXECUTE), routines; null for all.
          type: list
          elements: str
        role:
          description: The role that the person is a member of; null otherwise.
          type: str
        complete:
          description: Whether it gave all that there was when it was last looked at.
          type: bool
    given:
      description: How much of what was asked for the person has, C(full), C(partial) or C(none).
      type: str
      sample: full
logins:
  description: The logins that this collection made for people.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Its role.
      type: str
      sample: ada_example_org_8f434346
    grantee:
      description: The person.
      type: str
    auth:
      description: C(password), C(rds_iam) or C(entra).
      type: str
    open:
      description: Whether it can log in at all.
      type: bool
    expires_at:
      description: Until when its password is taken; null if it is shut.
      type: str
    fenced_since:
      description: Since when it is shut; null if it is open.
      type: str
    requests:
      description: The requests that it is for now.
      type: list
      elements: str
    secret:
      description: The name of the secret with its password, if it was given one, until that was withdrawn.
      type: str
    connection_limit:
      description:
        - How many sessions it may have, -1 for any number; 0 on a shut login that a sweep found on no reader.
      type: int
    sessions:
      description: How many it has on this server.
      type: int
profiles:
  description: The roles that carry the privileges, each shared by all requests for the same.
  returned: success
  type: list
  elements: dict
  contains:
    role:
      description: Its role.
      type: str
      sample: latchkey_p_0a1b2c3d4e5f6071
    scope:
      description:
        - What it gives, as C(database), C(permission), C(schemas) and C(objects) in RV(grants[].access).
        - Null if somebody has changed the role's comment.
      type: dict
    used_by:
      description: How many requests use it.
      type: int
    unused_since:
      description: Since when a sweep has found it unused; null while it is in use.
      type: str
    later:
      description: Creators whose new objects join only by the next grant or sweep.
      type: list
      elements: str
    complete:
      description: Whether it held all that it should when it was last looked at.
      type: bool
sessions:
  description: The sessions of people, on this server only.
  returned: success
  type: list
  elements: dict
  contains:
    pid:
      description: The process on the server.
      type: int
    login:
      description: The role that logged in.
      type: str
    grantee:
      description: The person.
      type: str
    database:
      description: The database.
      type: str
    since:
      description: When it began; null where O(login_user) may not see that.
      type: str
    application_name:
      description: What the client calls itself.
      type: str
      sample: psql
overdue:
  description:
    - What should be gone and is not. This is what an alert looks at; the next sweep ends it, or says what stops it.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description:
        - C(grant) is a request whose time is over. C(login) is open without a request. C(session) is of a login that is
          shut.
      type: str
      sample: grant
    role:
      description: The role.
      type: str
    grantee:
      description: The person.
      type: str
    request_id:
      description: The request, of a C(grant).
      type: str
    since:
      description: The end of the role's time; null if it has none.
      type: str
    what:
      description: What is not right.
      type: str
drift:
  description: What is not as the requests say, as in RV(latchkey.postgres.pg_access_sweep#module:drift).
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: What sort it is.
      type: str
      sample: stray_member
    role:
      description: The role.
      type: str
    what:
      description: What is not right.
      type: str
enforcement:
  description:
    - The job that ends access without a controller, as O(login_user) sees it. Only who scheduled the job sees it.
  returned: success
  type: dict
  contains:
    available:
      description: Whether nothing is missing that it needs.
      type: bool
    installed:
      description: Whether it is installed and as it should be.
      type: bool
    reason:
      description:
        - What is missing, or not as it should be. With RV(enforcement.installed), why the last run of the job failed,
          if C(cron.job_run_details) says so; null there does not prove that it has run.
      type: str
journal:
  description: What the journal says, the oldest first; null where O(login_user) can't read it.
  returned: with O(journal=true)
  type: list
  elements: dict
  contains:
    id:
      description: The number of the line.
      type: int
    at:
      description: When it was written.
      type: str
    actor:
      description: The role that wrote it.
      type: str
      sample: apono_connector
    action:
      description: What was done.
      type: str
      sample: grant
    request_id:
      description: The request.
      type: str
    grantee:
      description: The person.
      type: str
    login:
      description: The role that the person logs in as.
      type: str
    expires_at:
      description: The end of the access.
      type: str
    approver:
      description: Who approved it.
      type: str
    reason:
      description: What it was asked for.
      type: str
journal_reason:
  description: Why RV(journal) is null; else null.
  returned: with O(journal=true)
  type: str
  sample: login reporter may not read latchkey.journal
public:
  description: What every login has by C(PUBLIC), on databases and what is inside them, less what O(public) names.
  returned: with O(public=true)
  type: list
  elements: dict
  contains:
    database:
      description: The database.
      type: str
    kind:
      description: C(DATABASE), C(SCHEMA), C(TABLE), C(SEQUENCE) or C(ROUTINE).
      type: str
    name:
      description: The object, with its schema.
      type: str
    privileges:
      description: The privileges.
      type: list
      elements: str
    grantor:
      description: Who gave them.
      type: str
    hardenable:
      description: Whether to take them away closes something, and the object is not the platform's.
      type: bool
inventory:
  description:
    - What can be asked for, the databases in the order of their names, and the roles last.
    - A thing is listed if O(login_user) could give it now, as far as the catalog says.
  returned: with O(inventory=true)
  type: list
  elements: dict
  contains:
    type:
      description: C(database), C(schema), C(table), C(routine) or C(role).
      type: str
      sample: schema
    database:
      description: The database; null for a role.
      type: str
    schema:
      description: The schema; null for a database or a role.
      type: str
    name:
      description: The name of it. Routines that share a name are one thing.
      type: str
    permissions:
      description: The permissions that would be given in full; of a role C(MEMBER).
      type: list
      elements: str
      sample: [READ_ONLY, READ_WRITE, ADMIN, EXECUTE]
    partial:
      description:
        - The permissions that would be given in part, with
          O(latchkey.postgres.pg_access_grant#module:allow_partial=true).
      type: list
      elements: str
inventory_reason:
  description: Why O(login_user) can't give anything at all; else null.
  returned: with O(inventory=true)
  type: str
  sample: login reporter has no CREATEROLE. Log in as the connector that pg_apono_bootstrap makes
unreached:
  description: The databases that were not entered.
  returned: with O(inventory=true) or O(public=true)
  type: list
  elements: dict
  contains:
    database:
      description: The database.
      type: str
    reason:
      description: Why not.
      type: str
      sample: it takes no connections
error_kind:
  description:
    - The class of an error, C(invalid_option), C(secret_unreadable), C(server_unreachable), C(database_refused) or
      C(library_missing).
  returned: failure
  type: str
  sample: server_unreachable
"""

from ansible_collections.latchkey.postgres.plugins.module_utils._access.info import INFO
from ansible_collections.latchkey.postgres.plugins.module_utils._door import run_module


def main() -> None:
    run_module(INFO)


if __name__ == "__main__":
    main()
