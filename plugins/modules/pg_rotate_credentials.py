#!/usr/bin/python

# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_rotate_credentials
short_description: Change the password in a secret and on the server, so that a crash breaks neither
version_added: 1.0.0
description:
  - Gives a login a new password and stores it in the secret that its readers use, when the one that is there is old
    enough.
  - The new password is first in the secret store, where readers do not see it. Then the server gets it, a new session
    proves it, and readers get it. Between the last three there is nothing else to wait for.
  - A run may be killed anywhere. The next one asks the server which of the current, the pending and the previous
    password is the right one, and goes on from there. A failure to connect is never taken for a wrong password.
  - While nothing is due, one description of the secret is read from the store and no connection is made to the server.
  - The server gets SCRAM verifiers. No password is in a statement, a log, a result or on a command line.
  - Two runs on one server wait for each other. If the secret has changed all the same when the new password is to be
    made the current one, the server gets back what readers have, and the task fails.
attributes:
  check_mode:
    support: full
    details: The server is asked who logs in, and nothing is changed there or in the store.
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  secret:
    description:
      - The secret in O(secret_store), a JSON object with C(username) and C(password) and whatever else there is, which
        stays. Its C(host) and C(port), if it has any, must be O(login_host) and O(login_port).
      - A name or an ARN in AWS Secrets Manager; a name or a URL in Azure Key Vault.
      - With O(strategy=single) it may be the bare password of O(login_user).
      - Refused are secrets that Amazon RDS manages, and those that a Lambda function rotates unless O(force) is set.
    type: str
    required: true
  strategy:
    description:
      - V(single) lets the login change its own password. From the change until readers have the new password, which is
        a fraction of a second, those who read the secret are refused; sessions that are open stay.
      - V(admin) lets another login do it, which is the one in O(admin_secret), O(login_secret) or O(login_user). On
        PostgreSQL 16 and later that needs C(ADMIN OPTION) on the login.
      - V(alternate) takes turns between two logins, such as C(app) and C(app_b), and nobody is ever refused. Each
        rotation changes the password of the one that is idle, and then makes the secret name that one; the other's
        password stays valid until the next rotation.
      - The second login of V(alternate) is a member of the first and acts as it from the start of every session, so
        that it owns nothing and needs no privileges of its own. The administrator makes it when it is needed first,
        with the first login's connection limit, C(VALID UNTIL) and settings of C(ALTER ROLE … SET); later changes of
        those are for both, by hand. That takes C(ADMIN OPTION) on the first login on PostgreSQL 16 and later, and the
        right to set what is copied. Later rotations need the administrator only if the store's previous version is not
        of the idle login, as after a change by hand.
    type: str
    choices: [single, admin, alternate]
    default: single
  admin_secret:
    description:
      - The secret in O(secret_store) of the login that sets the password with O(strategy=admin), or makes the second
        login with O(strategy=alternate). It wins over O(login_secret), O(login_user) and O(login_auth).
      - Its C(host) and C(port), if it has any, must be O(login_host) and O(login_port) too; so must those of
        O(login_secret).
    type: str
  max_age_days:
    description:
      - Rotate when the current password is that old. V(0) rotates in every run.
      - The age counts from the tag C(latchkey-rotated-at), which every rotation sets; without it from the last change
        of the secret, as the store tells it.
    type: int
    default: 30
  window:
    description:
      - The hours of the day, in UTC, in which a rotation may begin, such as V(22-04) for 22:00 to 04:00.
      - What an earlier run has begun is brought to its end at any hour.
    type: str
  force:
    description:
      - Rotate now, whatever age and hour it is, and also if readers have a new password by a run that has still to be
        finished. Also if a Lambda function rotates the secret, which then has to be turned off.
      - With O(strategy=admin) and no password in the secret that is right any more, the login first gets the one in the
        secret. Who can write the secret could name any login there, so look at it before.
    type: bool
    default: false
  password_length:
    description:
      - How many letters, digits, hyphens and underscores a new password has, from 16 to 128.
    type: int
    default: 40
  terminate_older_sessions:
    description:
      - Once readers have the new password, end the sessions of the login that began before. A rotation that can't do
        that fails, and the next run goes on with it.
    type: bool
    default: false
  defer_while_active:
    description:
      - Leave the password of a person alone, who got the login and the secret by M(latchkey.postgres.pg_access_grant),
        as long as the access lasts.
    type: bool
    default: true
extends_documentation_fragment:
  - latchkey.postgres._attributes
  - latchkey.postgres._login
notes:
  - O(login_user), O(login_password), O(login_secret) and O(login_auth) name the administrator. With O(strategy=single)
    they are not used, but for a bare password.
  - The login must be let into O(login_db).
author:
  - Latchkey contributors (@latchkey-collection)
seealso:
  - module: latchkey.postgres.pg_apono_bootstrap
  - module: latchkey.postgres.pg_access_grant
"""

EXAMPLES = r"""
- name: Change the connector's password every 30 days, at night
  latchkey.postgres.pg_rotate_credentials:
    login_host: orders.abc123.eu-west-1.rds.amazonaws.com
    ca_cert: /etc/ssl/rds/global-bundle.pem
    secret: apono/orders
    window: 22-04
    secret_store:
      provider: aws
      region: eu-west-1

- name: Change the password of an application without an outage
  latchkey.postgres.pg_rotate_credentials:
    login_host: billing.postgres.database.azure.com
    secret: billing-app
    strategy: alternate
    admin_secret: billing-admin
    secret_store:
      provider: azure
      vault_url: https://acme.vault.azure.net

- name: Somebody has seen it, so change it now and end what is open
  latchkey.postgres.pg_rotate_credentials:
    login_host: orders.abc123.eu-west-1.rds.amazonaws.com
    secret: orders/app
    force: true
    terminate_older_sessions: true
    secret_store:
      provider: aws
"""

RETURN = r"""
action:
  description:
    - V(none) if nothing was to be done. V(rotated) if there is a new password. V(resumed) if a rotation that an earlier
      run had begun was brought to its end. V(restored) if the server got back the password that the secret has.
      V(deferred) if a person has access.
    - In check mode, what it would be.
  returned: success
  type: str
  sample: rotated
due:
  description: Whether the password was old enough, or O(force) was set.
  returned: success
  type: bool
age_days:
  description: How old the password was; null if that is not known.
  returned: success
  type: float
  sample: 31.2
next_due:
  description: When the password is old enough again; null if that is not known.
  returned: success
  type: str
  sample: "2030-01-31T16:00:00Z"
reason:
  description: Why it was done, or not.
  returned: success
  type: str
  sample: it is not older than 30 days
username:
  description: The login in the secret now; null if the secret was not read, because nothing was due.
  returned: success
  type: str
  sample: app_b
secret:
  description: The secret.
  returned: success
  type: dict
  contains:
    name:
      description: As it was given.
      type: str
    version:
      description: The current version.
      type: str
    previous:
      description: The version before, if it is known.
      type: str
steps:
  description: The steps that were taken, or would be in check mode.
  returned: success
  type: list
  elements: str
  sample: [prepare, apply, verify, promote, confirm, finish]
error_kind:
  description:
    - The class of an error, C(invalid_option), C(secret_unreadable), C(server_unreachable), C(database_refused) or
      C(library_missing).
  returned: failure
  type: str
  sample: server_unreachable
"""

from ansible_collections.latchkey.postgres.plugins.module_utils._door import run_module
from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.run import ROTATE


def main() -> None:
    run_module(ROTATE)


if __name__ == "__main__":
    main()
