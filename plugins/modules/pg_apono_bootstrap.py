#!/usr/bin/python

# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_apono_bootstrap
short_description: Make a connector user on a PostgreSQL server and give it every database
version_added: 1.0.0
description:
  - Makes the login through which a just-in-time access service works, on Azure Database for PostgreSQL flexible server,
    on Amazon RDS and Aurora, and on servers of your own.
  - Gives it all privileges with grant option on every database, schema, table, view, sequence, routine and type, and on
    those that will be created, so that it can pass any part of them on to people.
  - Works as an administrator that is not a superuser. Privileges are given in the name of each object's owner, whose
    role the administrator borrows inside the transaction that needs it.
  - What nobody but an owner can give is reported with the SQL that this owner must run.
  - Also gives it what it needs to hand out access for a time itself, which are roles to mark what is made, the right to
    end sessions, and a journal in the schema C(latchkey) of the maintenance database. That schema is never among those
    that the connector is given, whatever the database.
  - A run that finds nothing to do reads only. The same is true of check mode, which therefore works on a standby too.
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
      - V(present) makes the connector and gives it what is missing.
      - V(absent) takes everything back that the connector holds, in every database, and drops it. Default privileges
        that belong to the connector itself go with it, whoever set them and whoever gains by them. If anything stands
        in the way, such as objects that it owns or privileges that it has passed on, the task fails, says what, and
        changes nothing. The roles C(latchkey_managed) and C(latchkey_graveyard) go too, unless another connector uses
        them; roles of people that are members of the first stop the task. The journal goes if it is empty; one that
        says something stays, as history. What O(harden_public) took is given back to everybody with the last connector.
        The second login of M(latchkey.postgres.pg_rotate_credentials) with C(strategy=alternate) is dropped too.
      - Another connector, with V(absent), is who else can add to the journal and, from PostgreSQL 16 on, who else holds
        C(ADMIN OPTION) on one of the two roles. Up to 15, one made with O(journal=false) is not seen, and on no version
        one with O(access=false); run with V(present) and O(harden_public=true) for it again.
      - If the connector's role is gone already, V(absent) gives nothing back and leaves the two roles, because a wrong
        name would do so too. Make it again with V(present), then run with V(absent).
      - With V(absent), a role without C(LOGIN) and C(CREATEROLE), or with C(CREATEDB), C(REPLICATION) or C(BYPASSRLS),
        is taken for somebody else's and is not dropped.
    type: str
    choices: [present, absent]
    default: present
  platform:
    description:
      - Who runs the server. It decides which databases, schemas and roles are the platform's own and are left alone.
      - V(auto) looks for the roles C(rds_superuser) and C(azure_pg_admin).
    type: str
    choices: [auto, azure, postgres, rds]
    default: auto
  connector:
    description:
      - The name of the connector's role, 1 to 63 bytes.
    type: str
    default: apono_connector
  connector_password:
    description:
      - The connector's password. Without it and O(connector_secret) the role is made without one.
      - With O(connector_secret), the password that the secret is made with, if there is none yet.
    type: str
  connector_secret:
    description:
      - The secret in O(secret_store) that holds the connector's credentials, as a JSON object with C(username),
        C(password), C(engine), C(host), C(port) and C(dbname).
      - A secret that exists is left alone, and the connector is made with its password. Else it is made with a
        generated password, before the role is, so that a run that ends anywhere leaves nothing that the next one can't
        go on with.
      - If the role exists and the secret does not, give the role's password in O(connector_password), or set
        O(update_password=always).
      - In the end the task reads what a reader of the secret gets and logs in with it, which must work.
      - With O(state=absent) the secret is left alone.
    type: dict
    suboptions:
      name:
        description: Its name or ARN, or the name or URL of a secret in a Key Vault.
        type: str
        required: true
      tags:
        description:
          - Tags that the secret must have, besides C(apono-connector-read=true), by which the service may read it.
            Other tags are left alone.
        type: dict
        default: {}
      kms_key_id:
        description:
          - On AWS, the key that a new secret is encrypted with. Without it the account's key for the service is.
        type: str
      force:
        description:
          - Store new credentials over a secret that holds those of another server or user, which are then lost but for
            the store's older versions. Without it the task fails.
        type: bool
        default: false
      instance_tag:
        description:
          - Give the RDS instance or cluster the tag C(apono-secret) with the ARN of the secret, by which the service
            discovers it. O(login_host) must be the endpoint.
        type: bool
        default: false
  update_password:
    description:
      - V(on_create) sets the password only when the role is made.
      - V(always) also sets it when a trial login of the connector with O(connector_password), or with the password of
        O(connector_secret), fails.
    type: str
    choices: [on_create, always]
    default: on_create
  password_encryption:
    description:
      - V(client) sends a SCRAM-SHA-256 verifier made on the controller, so that the password is in no server log.
      - V(server) sends the password itself, for servers that check its strength. It may then be written to the server's
        log, depending on C(log_statement).
    type: str
    choices: [client, server]
    default: client
  platform_membership:
    description:
      - Make the connector a member of C(rds_superuser) or C(azure_pg_admin), as the vendor documents it.
      - Where the administrator may not give it, RV(connector.membership) says so and the run goes on, unless
        O(grant_to=platform_group) or O(fail_on_uncovered=true).
    type: bool
    default: true
  grant_to:
    description:
      - Who holds the privileges.
      - With V(platform_group) every administrator of the server can read and pass on everything, and O(state=absent)
        takes from the group all that it holds with grant option.
    type: str
    choices: [connector, platform_group]
    default: connector
  databases:
    description:
      - Shell patterns of the databases to give. A pattern that matches none is an error.
    type: list
    elements: str
    default: ['*']
  exclude_databases:
    description:
      - Shell patterns of databases to leave alone. The platform's own always are.
    type: list
    elements: str
    default: []
  exclude_schemas:
    description:
      - Shell patterns of schemas to leave alone. The platform's own, C(information_schema) and names that begin with
        C(pg_) always are.
      - If any are given, default privileges are set for each of the other schemas instead of the whole database. Then a
        new schema is covered by the next run.
    type: list
    elements: str
    default: []
  default_privileges:
    description:
      - Also give what will be created, by default privileges of every creator. Creators are the owners of objects, the
        roles that the ACL of a schema or of the database gives C(CREATE), and the administrator itself.
      - A creator can't be dropped before C(DROP OWNED BY) is run for it.
    type: bool
    default: true
  template1:
    description:
      - Include C(template1), from which new databases are copied.
    type: bool
    default: true
  grantable_roles:
    description:
      - Existing roles into which people shall be put for a time. Since PostgreSQL 16 the connector gets C(ADMIN OPTION)
        on them, without their privileges; before, C(CREATEROLE) is enough.
      - Refused are superusers, roles that have or by membership reach C(SUPERUSER), C(CREATEROLE), C(REPLICATION) or
        C(BYPASSRLS), roles of the platform, the connector, and names that begin with C(latchkey_). Of PostgreSQL's own
        roles those are taken that read, write, monitor or maintain, such as C(pg_read_all_data) and C(pg_monitor).
      - What the server refuses to give, RV(rights) says, and the run goes on, unless O(fail_on_uncovered=true).
    type: list
    elements: str
    default: []
  access:
    description:
      - Also prepare the server for M(latchkey.postgres.pg_access_grant), with the roles C(latchkey_managed) and
        C(latchkey_graveyard), the connector's right to end sessions, O(grantable_roles) and O(journal).
      - Set it to V(false) where only another service gives people access. What is there already stays.
    type: bool
    default: true
  journal:
    description:
      - Make the table C(latchkey.journal) in the maintenance database (O(login_db)), to which the connector can add and
        in which it can change nothing, as far as privileges on it go; see RV(journal.append_only). Time and author of
        an entry are the server's.
      - Privileges that others got on it are taken from them, by default privileges or by hand. A schema or table of
        that name that belongs to somebody else, or looks otherwise, is left alone, and RV(journal) says so.
    type: bool
    default: true
  harden_public:
    description:
      - Take from C(PUBLIC), which is every login, what no grant or revocation for one role can change. That is
        C(CONNECT), C(TEMPORARY) and C(CREATE) on the chosen databases, C(CREATE) on schemas, C(EXECUTE) on routines and
        all privileges on tables and sequences.
      - The same privileges go to the role C(latchkey_public) in the same transaction. Make each login a member that
        still needs them. Grant nothing else to that role, because O(state=absent) gives all that it holds to everybody.
      - C(USAGE) on schemas is listed and left, because it opens nothing by itself. Objects of extensions and of the
        platform are left alone. Privileges on columns, types and languages are not looked for.
      - A routine that is created later can be run by everybody until the next run.
      - A later run with V(false) changes nothing. O(state=absent) for the last connector gives everything back.
    type: bool
    default: false
  fail_on_uncovered:
    description:
      - Fail, after everything possible is done, if anything stays uncovered that is not the platform's own, if a right
        in RV(rights) is missing, or if there is no journal although one is wanted.
    type: bool
    default: false
  connections:
    description:
      - How many databases are visited at once, each over one connection.
    type: int
    default: 4
extends_documentation_fragment:
  - latchkey.postgres._attributes
  - latchkey.postgres._login
author:
  - Latchkey contributors (@latchkey-collection)
seealso:
  - name: How the connector gets its privileges
    description: What PostgreSQL lets an administrator do that is no superuser, by version.
    link: https://www.postgresql.org/docs/current/role-membership.html
"""

EXAMPLES = r"""
- name: Bootstrap a server
  latchkey.postgres.pg_apono_bootstrap:
    login_host: orders.abc123.eu-west-1.rds.amazonaws.com
    login_user: postgres
    login_password: "{{ admin_password }}"
    ca_cert: /etc/ssl/rds/global-bundle.pem
    connector_password: "{{ connector_password }}"

- name: Log in with a secret, and keep the connector's credentials in another, which is made if there is none
  latchkey.postgres.pg_apono_bootstrap:
    login_host: orders.abc123.eu-west-1.rds.amazonaws.com
    login_secret: rds-admin/orders
    connector_secret:
      name: apono/orders
      tags:
        team: data
      instance_tag: true
    secret_store:
      provider: aws
      region: eu-west-1
    ca_cert: /etc/ssl/rds/global-bundle.pem

- name: The same with an Azure Key Vault
  latchkey.postgres.pg_apono_bootstrap:
    login_host: billing.postgres.database.azure.com
    login_secret: pg-admin-billing
    connector_secret:
      name: apono-billing
    secret_store:
      provider: azure
      vault_url: https://acme.vault.azure.net

- name: See what would be given, in which databases, without changing anything
  latchkey.postgres.pg_apono_bootstrap:
    login_host: orders.postgres.database.azure.com
    login_user: pgadmin
    login_password: "{{ admin_password }}"
    databases: ["orders*"]
    exclude_schemas: ["audit"]
  check_mode: true
  diff: true

- name: Take the connector away again
  latchkey.postgres.pg_apono_bootstrap:
    login_host: orders.postgres.database.azure.com
    login_user: pgadmin
    login_password: "{{ admin_password }}"
    state: absent
"""

RETURN = r"""
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
      sample: pgadmin
connector:
  description: The connector.
  returned: success
  type: dict
  contains:
    name:
      description: Its role.
      type: str
      sample: apono_connector
    created:
      description: Whether this run made it, or would in check mode.
      type: bool
    membership:
      description: Its membership in the platform's group of administrators; null where none was asked for.
      type: dict
      contains:
        role:
          description: The group.
          type: str
          sample: rds_superuser
        granted:
          description: Whether the connector is a member now.
          type: bool
        reason:
          description: Why it is not.
          type: str
        sql:
          description: The statement that would make it one.
          type: str
rights:
  description: What the connector needs beside privileges to hand out access; empty with O(state=absent).
  returned: success
  type: list
  elements: dict
  contains:
    role:
      description: The role that it may hand out or, with C(pg_signal_backend), whose rights it has.
      type: str
      sample: latchkey_managed
    granted:
      description: Whether it may now.
      type: bool
    reason:
      description: Why not.
      type: str
    sql:
      description: What someone with the right to do it can run.
      type: str
journal:
  description: The journal; null without O(journal), and with O(state=absent).
  returned: success
  type: dict
  contains:
    schema:
      description: Its schema.
      type: str
      sample: latchkey
    available:
      description: Whether the connector can add to it now.
      type: bool
    append_only:
      description:
        - Whether that is all that the connector can do to it. Not so if it is a member of C(pg_write_all_data), which
          may write to every table, such as through C(rds_superuser); then O(platform_membership=false) helps.
        - Never so up to PostgreSQL 15, where C(CREATEROLE) lets the connector become a member of the table's owner.
      type: bool
    reason:
      description: Why not.
      type: str
    sql:
      description: What someone with the right to do it can run, if that helps.
      type: str
public:
  description: What everybody holds, and what the role C(latchkey_public) holds in everybody's place.
  returned: success, with O(harden_public=true) and O(state=present)
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
      description: The object.
      type: str
      sample: app.report(integer)
    privileges:
      description: The privileges.
      type: list
      elements: str
    hardened:
      description: Whether only members of C(latchkey_public) have them now.
      type: bool
secret:
  description: The connector's secret; null without O(connector_secret).
  returned: success
  type: dict
  contains:
    name:
      description: Its name or ARN.
      type: str
      sample: apono/orders
    version:
      description: The version that is current; null where check mode would have made it.
      type: str
    created:
      description: Whether this run made it, or would in check mode.
      type: bool
    replaced:
      description: Whether this run stored new credentials over those of another server or user, or would.
      type: bool
    tags:
      description: The tags that this run added to a secret that existed, or would.
      type: dict
    instance:
      description: The ARN of the RDS instance or cluster that this run gave its tag, or would; else null.
      type: str
    verified:
      description:
        - Whether a login with what a reader of the secret gets worked; null where check mode had nothing to try.
      type: bool
databases:
  description: The databases that O(databases) means, in the order of their names.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: The database.
      type: str
      sample: orders
    reachable:
      description: Whether it was entered.
      type: bool
    reason:
      description: Why not.
      type: str
      sample: it takes no connections
    expected:
      description: False if another run, or you, might change that it was not reached.
      type: bool
    objects:
      description: How many schemas, tables, sequences, routines and types it has in scope.
      type: int
    covered:
      description: On how many of them the grantee holds all privileges with grant option now.
      type: int
coverage:
  description: The sums over all databases that were entered, as read from the catalogs after the work.
  returned: success
  type: dict
  contains:
    objects:
      description: Objects in scope.
      type: int
      sample: 195
    covered:
      description: Those covered.
      type: int
      sample: 193
    ratio:
      description: Covered by objects, to four digits; 1.0 where there are no objects.
      type: float
      sample: 0.9897
uncovered:
  description: What stays uncovered, one entry for each database, owner and reason.
  returned: success
  type: list
  elements: dict
  contains:
    database:
      description: The database.
      type: str
    owner:
      description: The role that owns the objects, or whose default privileges are meant.
      type: str
    objects:
      description: How many objects of the database.
      type: int
    default_privileges:
      description: How many kinds of default privileges.
      type: int
    cause:
      description:
        - C(platform) means that it belongs to the platform and nobody can change that.
        - C(no_way) means that the login may not act as the owner.
        - C(refused) means that the server refused, or granted nothing.
        - C(busy) means that another transaction held it, so that another run will do.
        - C(unknown) means that it appeared during the run.
      type: str
    sqlstate:
      description: The server's error code, if there is one.
      type: str
      sample: "42501"
    reason:
      description: Why.
      type: str
    remedy:
      description: A statement by which someone who administers the owner lets the next run give everything; or null.
      type: str
      sample: GRANT "app_gamma" TO "pgadmin" WITH ADMIN OPTION;
    sql:
      description: The statements that the owner must run otherwise.
      type: list
      elements: str
statements:
  description: The statements that were run, or would be in check mode; passwords are hidden.
  returned: success
  type: list
  elements: dict
  contains:
    database:
      description: Where; null for the maintenance database.
      type: str
    sql:
      description: The statement.
      type: str
error_kind:
  description:
    - The class of an error, C(invalid_option), C(secret_unreadable), C(server_unreachable), C(database_refused) or
      C(library_missing).
  returned: failure
  type: str
  sample: server_unreachable
"""

from ansible_collections.latchkey.postgres.plugins.module_utils._bootstrap.run import BOOTSTRAP
from ansible_collections.latchkey.postgres.plugins.module_utils._door import run_module


def main() -> None:
    run_module(BOOTSTRAP)


if __name__ == "__main__":
    main()
