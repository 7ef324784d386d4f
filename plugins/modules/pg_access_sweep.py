#!/usr/bin/python

# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: pg_access_sweep
short_description: End access whose time is over, and put right what has drifted
version_added: 1.0.0
description:
  - Ends every request of M(latchkey.postgres.pg_access_grant) whose time is over, as its
    O(latchkey.postgres.pg_access_grant#module:state=absent) would. The server's clock decides.
  - Needs nothing but a connection as the connector. All that it must know is in PostgreSQL's catalog, so any controller
    can sweep, and several at once.
  - Repairs what others changed by hand. A login of a person without a request is shut; one that lasts longer than its
    last request gets that end; members that no request put into a role of ours are taken out. What it may not repair,
    RV(drift) tells.
  - Finishes what an earlier run could not, such as sessions that withstood and roles that could not be dropped.
  - Drops logins that have been shut for O(cleanup_after_days), with what they left behind by O(owned_objects), in every
    database.
  - With O(secret_store), the secrets of people whose logins it shuts get a new version without password.
  - Looks at every profile that is in use as a whole and gives it what it lacks, and drops those that are not used.
  - Only what this collection made and marked is ever altered or dropped.
  - One role that is in the way never stops the others. If access that should be gone is not proven gone, the task fails
    after everything else is done, and names it in RV(overdue).
  - Run it every few minutes. Between a request's end and the next sweep, sessions that are open go on, and logins that
    are not by password are let in.
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
  idempotent:
    support: full
options:
  gone:
    description:
      - People who left, by the grantee's name in their requests. All their requests end now, whatever their time, and
        their logins are dropped without waiting for O(cleanup_after_days).
    type: list
    elements: str
    default: []
  cleanup_after_days:
    description:
      - How many days after the last of its requests ended a person's login is dropped. V(0) drops it at once.
      - Until then it has neither password nor C(LOGIN), and a new request opens it again.
    type: int
    default: 7
  owned_objects:
    description:
      - What becomes of objects that a login owns when it is to be dropped.
      - V(keep) keeps them and the login, which RV(blocked) then names.
      - V(graveyard) gives them to the role C(latchkey_graveyard), if they are plain tables with their sequences.
        Whatever could run code of the person's as its next owner, such as a function, a view, a trigger or a default,
        is kept.
      - V(reassign_to) gives all of it to the role in O(reassign_to), which must be trusted to look at it.
      - V(drop) drops the objects of those whom O(confirm_drop) names, and keeps those of others.
      - Rights that others gave to the login, and default privileges that it set, go in any case. A prepared transaction
        of the login keeps it.
    type: str
    choices: [keep, graveyard, reassign_to, drop]
    default: keep
  reassign_to:
    description:
      - The role for O(owned_objects=reassign_to); one that has, or leads to, power over the server is refused.
      - If it is refused, the sweep ends what is over, leaves what people own as it is, and fails.
    type: str
  confirm_drop:
    description:
      - The grantees whose objects O(owned_objects=drop) may drop.
    type: list
    elements: str
    default: []
  profile_retention_days:
    description:
      - How many days a profile that no request uses is kept, so that the next request finds it ready. V(0) drops it at
        once.
    type: int
    default: 30
  complete_profiles:
    description:
      - Look at all objects in the scope of every profile that is in use, and give what is missing. New objects of
        creators as whom the connector may not act, and new objects that match a pattern, join this way.
      - V(false) leaves it to the next request and to another sweep, for one that runs every minute on a large server.
    type: bool
    default: true
  enforcement:
    description:
      - What goes on when nobody sweeps any more.
      - V(pg_cron) installs the procedure C(latchkey.enforce) and a job of C(pg_cron) that calls it every minute as the
        connector. It takes memberships and logins of what is over away, ends the sessions and drops the roles of the
        requests. It does not know O(readers) and secrets, repairs no other drift and drops no logins, so sweep all the
        same.
      - V(none) takes both away again. Without this option they stay as they are.
      - It needs the extension C(pg_cron) in the maintenance database, and there the schema C(latchkey), which must
        belong to an administrator of the connector, because who owns it could replace the procedure. What is missing is
        said, with the statement that an administrator must run. The sweep does all else, and then fails.
      - With its setting C(cron.use_background_workers) off, which is the default, C(pg_cron) logs in as the connector
        at C(cron.host). Where C(pg_hba.conf) asks for a password there, every run fails unless the server's own user
        has it in a password file. Turn the setting on, or see RV(latchkey.postgres.pg_access_info#module:enforcement)
        some minutes later.
    type: str
    choices: [none, pg_cron]
  readers:
    description:
      - Other endpoints of the same data, as C(host) or C(host:port), with port 5432 unless given. They are physical
        standbys or readers of a cluster, where sessions are ended too.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - latchkey.postgres._attributes
  - latchkey.postgres._login
author:
  - Latchkey contributors (@latchkey-collection)
seealso:
  - module: latchkey.postgres.pg_access_info
  - module: latchkey.postgres.pg_access_grant
  - module: latchkey.postgres.pg_apono_bootstrap
"""

EXAMPLES = r"""
- name: End what is over
  latchkey.postgres.pg_access_sweep:
    login_host: orders.abc123.eu-west-1.rds.amazonaws.com
    login_secret: apono/orders
    ca_cert: /etc/ssl/rds/global-bundle.pem
    secret_store:
      provider: aws
      region: eu-west-1
    readers:
      - orders-reader.abc123.eu-west-1.rds.amazonaws.com

- name: Somebody left; what they own goes to the team's role
  latchkey.postgres.pg_access_sweep:
    login_host: billing.postgres.database.azure.com
    login_user: apono_connector
    login_password: "{{ connector_password }}"
    gone: [ada@example.org]
    owned_objects: reassign_to
    reassign_to: billing_owner

- name: See what a sweep would end
  latchkey.postgres.pg_access_sweep:
    login_host: orders.example.org
    login_user: apono_connector
    login_password: "{{ connector_password }}"
  check_mode: true
"""

RETURN = r"""
ended:
  description: The requests that this run ended, or would in check mode.
  returned: success
  type: list
  elements: str
  sample: [OPS-4711]
fenced:
  description: The logins that this run shut, or would.
  returned: success
  type: list
  elements: str
  sample: [ada_example_org_cfe00dde]
overdue:
  description: What is not proven gone, a line each. If there is any, the task has failed.
  returned: always
  type: list
  elements: str
  sample: ["sessions have not ended after 10 s"]
drift:
  description: What was not as the requests say.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description:
        - C(open_login) can log in without a request. C(wrong_end) does not end with its last request.
          C(stray_member) is in a role of ours that no request put it into. These are repaired.
        - C(other_membership) is a person's login or a profile in a role of somebody else's, which its grantor must take
          away. C(shut_login) was shut by somebody though a request lasts. C(unknown_role) has our mark, and a comment
          that is not ours. C(empty_grant) is a request whose role is in no other any more. These are told.
        - C(unmarked_grant) is named as a grant and has lost the mark, so that nothing ends it. It fails the task.
      type: str
      sample: wrong_end
    role:
      description: The role.
      type: str
    what:
      description: What is not right.
      type: str
    repaired:
      description: Whether this run has put it right.
      type: bool
dropped:
  description: The roles of people that were dropped, or would be.
  returned: success
  type: list
  elements: str
blocked:
  description: Roles that give no access and could not be dropped. The next sweep tries again.
  returned: success
  type: list
  elements: dict
  contains:
    role:
      description: The role.
      type: str
    reason:
      description: What is in the way, and what to do about it.
      type: str
profiles:
  description: The profiles in use that were completed, or are not complete.
  returned: success
  type: list
  elements: dict
  contains:
    profile:
      description: What it gives.
      type: str
      sample: READ_ONLY on shop in orders
    role:
      description: Its role.
      type: str
      sample: latchkey_p_698fc33cc0a358de
    changed:
      description: Whether something was given, or would be.
      type: bool
    missing:
      description: What can't be given, and why; null if nothing.
      type: str
    later:
      description: Creators whose new objects join only by a grant or a sweep.
      type: list
      elements: str
profiles_dropped:
  description: The profiles that were dropped, or would be.
  returned: success
  type: list
  elements: str
secrets_withdrawn:
  description: The secrets that got a version without password.
  returned: success
  type: list
  elements: str
enforcement:
  description: The job of C(pg_cron); null without O(enforcement).
  returned: success
  type: dict
  contains:
    installed:
      description: Whether it is there now.
      type: bool
    changed:
      description: Whether this run changed it, or would in check mode.
      type: bool
error_kind:
  description:
    - The class of an error, C(invalid_option), C(secret_unreadable), C(server_unreachable), C(database_refused) or
      C(library_missing). Access that is overdue is C(database_refused).
  returned: failure
  type: str
  sample: server_unreachable
"""

from ansible_collections.latchkey.postgres.plugins.module_utils._access.sweep import SWEEP
from ansible_collections.latchkey.postgres.plugins.module_utils._door import run_module


def main() -> None:
    run_module(SWEEP)


if __name__ == "__main__":
    main()
