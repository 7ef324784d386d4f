#!/usr/bin/python

# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_access_grant
short_description: Give a person access to PostgreSQL databases for a limited time, and take it away
version_added: 1.0.0
description:
  - Gives a person a login with the permissions that a request asks for, until a time that the server's clock decides,
    or ends what a request gave.
  - Works as the connector that M(latchkey.postgres.pg_apono_bootstrap) makes.
  - Everything that enforcement needs is in PostgreSQL's catalog. A request is a role without login, whose
    C(VALID UNTIL) is its end. That role is a member of I(profile) roles, which hold the privileges on objects and are
    shared by all requests of the same scope. The person's login is a member of it.
  - The first request for a scope makes its profile, which takes time by the number of objects. Every other one is a few
    statements about roles, whatever the size of the database.
  - Two requests of one person are independent. Each ends at its own time; the login lasts as long as the last of them.
  - To revoke takes the memberships, the login and its password away first, and commits that. Then the person's sessions
    are ended, by the login's number and not by its name, here and on O(readers), until there are none. The task
    succeeds only if it has read from the catalog that all of it is so. A login that no other request keeps open is left
    without password and C(LOGIN), for M(latchkey.postgres.pg_access_sweep) to drop.
  - Nothing ends by itself but logins by password, which C(VALID UNTIL) refuses after the last request's end. Sessions
    that are open then, logins by a token, and logins with O(login=existing) end when
    M(latchkey.postgres.pg_access_sweep) runs; schedule it.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  state:
    description:
      - V(present) gives what the request asks for. The same request again changes nothing; with a later end it is
        extended, with an earlier one it stays as it is.
      - V(absent) ends the request at once. One that is not there, or is over already, is no error.
    type: str
    choices: [present, absent]
    default: present
  request_id:
    description:
      - What the request is known by, such as the number of a ticket. 1 to 256 printable characters.
      - While its grant exists, the same id can't be used for another O(grantee), O(access) or login. A grant exists
        until it is revoked, or a sweep has ended it.
      - After that the id is not remembered and the same task gives access again. Where a request that is sent again
        must fail, use O(expires_at), which is past then.
    type: str
    required: true
  grantee:
    description:
      - Who gets access, by the name that your directory knows, such as a mail address. 1 to 256 printable characters.
        Needed unless O(state=absent); given there, it must be the request's.
      - With O(login=managed) the login is made from it, a readable part and 8 hexadecimal digits, such as
        C(ada_example_org_cfe00dde). With O(login=existing) or O(auth=entra) it is the name of the role itself, with at
        most 63 bytes.
      - Refused are roles of the platform and of this collection, the connector, administrators with O(login=existing),
        and with O(login=managed) a role of that name that this collection did not make.
    type: str
  access:
    description:
      - What is asked for. Needed unless O(state=absent). Each item gives either O(access[].permission) on
        O(access[].database), or O(access[].role).
      - What it names must be there. A pattern that matches nothing is an error.
      - No permission contains a grant option or ownership.
      - What PUBLIC may do, every login may do too, so a grant can neither give nor take it. That is C(CONNECT) and
        C(TEMPORARY) on databases, C(EXECUTE) on routines and, up to PostgreSQL 14, C(CREATE) in the schema C(public),
        unless somebody revoked it.
      - Schemas of the platform, C(information_schema), names that begin with C(pg_), and C(latchkey), which holds the
        journal, are never meant.
    type: list
    elements: dict
    suboptions:
      database:
        description: A database, by its exact name.
        type: str
      permission:
        description:
          - V(READ_ONLY) is C(CONNECT) on the database, C(USAGE) on the schemas, C(SELECT) on tables and on sequences.
            Tables are meant with views, materialized views, partitioned and foreign tables.
          - V(READ_WRITE) is C(CONNECT) and C(TEMPORARY) on the database, C(USAGE) on the schemas, C(SELECT), C(INSERT),
            C(UPDATE) and C(DELETE) on tables, C(SELECT), C(UPDATE) and C(USAGE) on sequences.
          - V(ADMIN) is every privilege that the server's version knows, on the database (C(CONNECT), C(TEMPORARY),
            C(CREATE)), the schemas (C(USAGE), C(CREATE)), the tables (C(SELECT), C(INSERT), C(UPDATE), C(DELETE),
            C(TRUNCATE), C(REFERENCES), C(TRIGGER), from PostgreSQL 17 on C(MAINTAIN)), the sequences (C(SELECT),
            C(UPDATE), C(USAGE)), the routines (C(EXECUTE)) and the types (C(USAGE)).
          - V(ADMIN) with O(access[].schemas) has only C(CONNECT) and C(TEMPORARY) on the database. With
            O(access[].tables) it has also only C(USAGE) on the schemas, and nothing on routines and types.
          - V(EXECUTE) is C(CONNECT) on the database, C(USAGE) on the schemas, C(EXECUTE) on functions, procedures and
            aggregates, and nothing on tables.
          - V(ADMIN) is for people whom you trust with the data's owners. C(TRIGGER) lets them attach a function that
            runs as whoever writes to the table next, and C(CREATE) lets them put an object in a schema where others
            take it for their own. What they made so outlives their access.
        type: str
        choices: [READ_ONLY, READ_WRITE, ADMIN, EXECUTE]
      schemas:
        description:
          - Shell patterns of schemas. Without it all are meant, and those that will be made.
          - A schema that is made later and matches a pattern is in the permission from the next grant or sweep on.
        type: list
        elements: str
      tables:
        description:
          - Shell patterns of tables and views in these schemas, without the schema's name. A sequence is meant if it
            belongs to such a table. Not with V(EXECUTE).
          - Without it all tables and sequences are meant, and those that will be made. A table that is made later and
            matches a pattern is in the permission from the next grant or sweep on.
        type: list
        elements: str
      routines:
        description:
          - Shell patterns of functions and procedures in these schemas, without schema and arguments. Only with
            V(EXECUTE), and else like O(access[].tables).
        type: list
        elements: str
      role:
        description:
          - A role that exists, to be a member of. Its privileges come to the person, who can't C(SET ROLE) to it from
            PostgreSQL 16 on.
          - Refused if it is, or leads to, a role of the platform, of this collection, the connector, or one with
            C(SUPERUSER), C(CREATEROLE), C(REPLICATION) or C(BYPASSRLS). Of PostgreSQL's own, C(pg_read_all_data),
            C(pg_write_all_data), C(pg_monitor), C(pg_read_all_stats), C(pg_read_all_settings), C(pg_stat_scan_tables)
            C(pg_maintain), C(pg_checkpoint), C(pg_create_subscription), C(pg_use_reserved_connections) and
            C(pg_signal_backend) may be given. Who has the last can end the connector's sessions too.
          - From PostgreSQL 16 on the connector needs C(ADMIN OPTION) on it, which
            O(latchkey.postgres.pg_apono_bootstrap#module:grantable_roles) gives.
        type: str
  duration:
    description:
      - For how long, as V(4h), V(90m), V(1d12h) or V(45s), or as ISO 8601 writes it, V(PT4H) or V(P1DT12H). Days are 24
        hours; months and years have no fixed length and are refused.
      - It counts from the moment of the first grant, by the server's clock. So V(4h) asked for twice is 4 hours, and
        V(6h) asked for later is 2 hours more.
      - Give this or O(expires_at) with O(state=present).
    type: str
  expires_at:
    description:
      - Until when, with the offset from UTC, such as V(2030-01-31T16:00:00Z). A moment that is past, by the server's
        clock, is an error.
    type: str
  max_duration:
    description:
      - The longest time that is allowed, counted from the first grant; written like O(duration). More is refused, not
        cut.
    type: str
    default: 8h
  reason:
    description:
      - Why, for the journal. It is nowhere else.
    type: str
  approver:
    description:
      - Who approved it, for the journal and for the comment of the grant's role, which everybody on the server can
        read.
    type: str
  login:
    description:
      - V(managed) makes a login for the person, or opens the one that an earlier request made.
      - V(existing) gives the permissions to a login that is there, named by O(grantee). It is never altered. At the end
        the membership is taken away and, unless another request of this person is active, the sessions are ended.
    type: str
    choices: [managed, existing]
    default: managed
  auth:
    description:
      - How a managed login proves itself.
      - V(password) makes a password and gives the server only its SCRAM-SHA-256 verifier; or takes
        O(password_verifier).
      - V(rds_iam) makes the login a member of C(rds_iam), so that a token of AWS IAM is its password. From PostgreSQL
        16 on it is first tried whether the connector can still log in with its password when a role that it made is a
        member of C(rds_iam); if not, the task fails and nothing is changed. Then the connector must use
        O(login_auth=rds_iam) itself.
      - V(entra) makes the login with C(pgaadauth_create_principal), as the principal of Microsoft Entra ID that
        O(grantee) names. The connector must be an Entra administrator and O(login_db) be V(postgres).
    type: str
    choices: [password, rds_iam, entra]
    default: password
  connection_limit:
    description:
      - How many sessions the login may have at once, V(-1) for any number. It is set when the login is made or opened.
        PostgreSQL may exceed it by a few when sessions begin in the same moment.
    type: int
    default: -1
  secret:
    description:
      - The secret in O(secret_store) that the person's credentials go to, as a JSON object with C(username),
        C(password), C(engine), C(host), C(port) and C(dbname).
      - It is written before the server knows the password. One that holds the credentials of somebody else is never
        written over.
      - A login that another request keeps open keeps its password, and RV(secret) names the secret where that is.
      - When the login is shut, by O(state=absent) or a sweep that is given the O(secret_store), the secret gets a new
        version without password. The secret itself is not deleted, and the old version is worth nothing. If the store
        can't be reached then, that is a warning.
      - Give this, O(password_verifier) or O(return_password) with O(login=managed) and O(auth=password).
    type: dict
    suboptions:
      name:
        description:
          - Its name or ARN, or the name or URL of a secret in a Key Vault. One for each person and server; one whose
            C(username), C(host) or C(port) are others is refused.
        type: str
        required: true
      tags:
        description: Tags of a secret that is made.
        type: dict
        default: {}
      kms_key_id:
        description:
          - On AWS, the key that a new secret is encrypted with. Without it the account's key for the service is.
        type: str
  password_verifier:
    description:
      - A SCRAM-SHA-256 verifier of a password that only the person knows, as C(\password) of psql makes it.
    type: str
  return_password:
    description:
      - Return the new password in RV(password), and nowhere else. Use C(no_log) or register it with care; without this
        option the password is in no result.
      - There is none to return if the login was open already.
    type: bool
    default: false
  readers:
    description:
      - Other endpoints of the same data, as C(host) or C(host:port), with port 5432 unless given. They are physical
        standbys or readers of a cluster, where the person's sessions are ended too.
      - The task waits up to 10 seconds until a reader has heard of the end. One that can't be reached fails the task,
        after everything else is done.
    type: list
    elements: str
    default: []
  end_sessions:
    description:
      - Whether O(state=absent) ends the sessions of a person whom another request still lets in. Where none does they
        always end.
      - V(auto) ends them up to PostgreSQL 15, where a session may have taken a role on with C(SET ROLE) and would keep
        it. From 16 on that can't be, and the next statement of an open session has lost the privileges.
      - V(always) ends them on every version.
    type: str
    choices: [auto, always]
    default: auto
  allow_partial:
    description:
      - Give what can be given if some of it can't. Without it, nothing is given then and the task fails.
      - An item is C(partial) if there are objects in its scope on which the connector can't give the permission, such
        as those of an owner that RV(latchkey.postgres.pg_apono_bootstrap#module:uncovered) names. RV(items) says how
        many, whose, and why.
      - If no item can be given in any part, the task fails all the same.
    type: bool
    default: false
  access_details:
    description:
      - The message for the person in RV(access_details), of at most 400 characters. C({access}), C({login}), C({host}),
        C({port}), C({database}), C({expires_at}), C({uri}) and C({secret}) are filled in. What is longer then, is cut.
    type: str
extends_documentation_fragment:
  - latchkey.postgres._attributes
  - latchkey.postgres._login
author:
  - Latchkey contributors (@latchkey-collection)
seealso:
  - module: latchkey.postgres.pg_access_info
  - module: latchkey.postgres.pg_access_sweep
  - module: latchkey.postgres.pg_apono_bootstrap
"""

EXAMPLES = r"""
- name: Let Ada read the schema orders for four hours, with the credentials in a secret of hers
  latchkey.postgres.pg_access_grant:
    login_host: orders.abc123.eu-west-1.rds.amazonaws.com
    login_secret: apono/orders
    ca_cert: /etc/ssl/rds/global-bundle.pem
    secret_store:
      provider: aws
      region: eu-west-1
    request_id: OPS-4711
    grantee: ada@example.org
    access:
      - database: shop
        permission: READ_ONLY
        schemas: [orders]
    duration: 4h
    reason: Refunds of last week
    approver: grace@example.org
    secret:
      name: people/orders/ada
  register: access

- name: Tell her
  ansible.builtin.debug:
    msg: "{{ access.access_details }}"

- name: Two hours more
  latchkey.postgres.pg_access_grant:
    login_host: orders.abc123.eu-west-1.rds.amazonaws.com
    login_secret: apono/orders
    ca_cert: /etc/ssl/rds/global-bundle.pem
    secret_store:
      provider: aws
      region: eu-west-1
    request_id: OPS-4711
    grantee: ada@example.org
    access:
      - database: shop
        permission: READ_ONLY
        schemas: [orders]
    duration: 6h
    secret:
      name: people/orders/ada

- name: Take it away now
  latchkey.postgres.pg_access_grant:
    login_host: orders.abc123.eu-west-1.rds.amazonaws.com
    login_secret: apono/orders
    ca_cert: /etc/ssl/rds/global-bundle.pem
    secret_store:
      provider: aws
      region: eu-west-1
    request_id: OPS-4711
    state: absent
    readers:
      - orders-reader.abc123.eu-west-1.rds.amazonaws.com

- name: Write two tables and run one function, until a fixed time, with the directory's login
  latchkey.postgres.pg_access_grant:
    login_host: billing.postgres.database.azure.com
    login_user: latchkey-connector
    login_auth: entra
    request_id: INC-77
    grantee: ada@example.org
    auth: entra
    access:
      - database: billing
        permission: READ_WRITE
        schemas: [public]
        tables: [invoice, invoice_line]
      - database: billing
        permission: EXECUTE
        schemas: [public]
        routines: [reprint_invoice]
    expires_at: "2030-01-31T16:00:00Z"

- name: See what would be done
  latchkey.postgres.pg_access_grant:
    login_host: orders.example.org
    login_user: apono_connector
    login_password: "{{ connector_password }}"
    request_id: OPS-4712
    grantee: reporting
    login: existing
    access:
      - role: sales_reports
    duration: PT90M
  check_mode: true
  diff: true
"""

RETURN = r"""
request_id:
  description: The request.
  returned: success
  type: str
  sample: OPS-4711
grantee:
  description: Who has access.
  returned: O(state=present)
  type: str
  sample: ada@example.org
login:
  description: The role that the person logs in as.
  returned: O(state=present)
  type: str
  sample: ada_example_org_cfe00dde
host:
  description: The server's address.
  returned: O(state=present)
  type: str
  sample: orders.abc123.eu-west-1.rds.amazonaws.com
port:
  description: The server's port.
  returned: O(state=present)
  type: int
  sample: 5432
database:
  description: Where the person begins, which is the first database that is asked for, else O(login_db).
  returned: O(state=present)
  type: str
  sample: shop
expires_at:
  description: When the request ends, in UTC.
  returned: O(state=present)
  type: str
  sample: "2030-01-31T16:00:00Z"
items:
  description: What became of each item of O(access); also returned if the task fails because some can't be given.
  returned: O(state=present)
  type: list
  elements: dict
  contains:
    database:
      description: The database; null for a role.
      type: str
      sample: shop
    permission:
      description: The permission; null for a role.
      type: str
      sample: READ_ONLY
    schemas:
      description: The patterns of schemas; null for a role.
      type: list
      elements: str
    objects:
      description: The patterns of tables or routines; null where all are meant.
      type: list
      elements: str
    role:
      description: The role that gives it, a profile or the one that was asked for.
      type: str
      sample: latchkey_p_698fc33cc0a358de
    status:
      description:
        - C(granted) is all of it.
        - C(partial) is what the connector could give. Without O(allow_partial) it is what could have been given.
        - C(failed) is nothing.
        - C(undone) could have been given, and was not because of another.
      type: str
      sample: granted
    reason:
      description: Why it is less than was asked for; else null.
      type: str
      sample: "3 objects can't be given, the first of owner app_gamma: the login may not act as it"
    uncovered:
      description: On how many objects it is missing.
      type: int
      sample: 0
    later:
      description:
        - Creators as whom the connector may not act. What they make from now on is in the permission only from the next
          grant of the same scope or the next sweep on.
      type: list
      elements: str
secret:
  description: Where the login's credentials are, as a name or ARN; null if there is no secret.
  returned: O(state=present)
  type: str
  sample: people/orders/ada
uri:
  description: How to connect, without password.
  returned: O(state=present)
  type: str
  sample: postgresql://ada_example_org_cfe00dde@orders.example.org:5432/shop?sslmode=verify-full
access_details:
  description: The message for the person. It has no password.
  returned: O(state=present)
  type: str
  sample: "You have READ_ONLY on shop in orders until 2030-01-31T16:00:00Z: postgresql://…"
password:
  description: The new password; null if the login was open already, or in check mode.
  returned: O(return_password=true)
  type: str
revoked:
  description: The request, if this run ended it, or would in check mode.
  returned: O(state=absent)
  type: list
  elements: str
fenced:
  description: The logins that this run shut, or would.
  returned: O(state=absent)
  type: list
  elements: str
blocked:
  description: Roles that give no access any more, and could not be dropped. The sweep tries again.
  returned: O(state=absent)
  type: list
  elements: dict
  contains:
    role:
      description: The role.
      type: str
    reason:
      description: What is in the way.
      type: str
secrets_withdrawn:
  description: The secrets that got a version without password.
  returned: O(state=absent)
  type: list
  elements: str
statements:
  description: The statements that were run, or would be in check mode; verifiers are hidden.
  returned: success
  type: list
  elements: str
error_kind:
  description:
    - The class of an error, C(invalid_option), C(secret_unreadable), C(server_unreachable), C(database_refused) or
      C(library_missing).
    - An end that is not proven, because a session or a reader withstood, is C(database_refused). Then the login and the
      memberships are gone all the same, and another run or the sweep goes on.
  returned: failure
  type: str
  sample: database_refused
"""

from ansible_collections.latchkey.postgres.plugins.module_utils._access.run import GRANT
from ansible_collections.latchkey.postgres.plugins.module_utils._door import run_module


def main() -> None:
    run_module(GRANT)


if __name__ == "__main__":
    main()
