# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: aws_pg_secret
short_description: Credentials of PostgreSQL from AWS Secrets Manager
version_added: 1.0.0
author:
  - Latchkey contributors (@latchkey-collection)
description:
  - Reads secrets of AWS Secrets Manager and returns each as a dictionary.
  - A secret is a JSON object with C(username) and C(password), and where known C(engine), C(host), C(port), C(dbname)
    and C(masterarn), as the vendors write it; or a bare password, with O(username).
  - Several secrets are fetched at once. In one process each is fetched once, through one client. Nothing is kept on
    disk.
options:
  _terms:
    description: Names or ARNs of secrets. The region in an ARN wins over O(region).
    type: list
    elements: str
    required: true
  version_stage:
    description:
      - The staging label of the version to read. It is always sent, so that no rotation decides which one is meant.
    type: str
    default: AWSCURRENT
  version_id:
    description: The version to read, instead of the one with O(version_stage).
    type: str
extends_documentation_fragment:
  - latchkey.postgres._secret
  - latchkey.postgres._aws
seealso:
  - plugin: latchkey.postgres.rds_iam_token
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Bootstrap an RDS server as the administrator that a secret knows
  latchkey.postgres.pg_apono_bootstrap:
    login_host: "{{ pg_host }}"
    login_user: "{{ admin.username }}"
    login_password: "{{ admin.password }}"
    ca_cert: "{{ pg_ca_cert }}"
    connector_password: "{{ connector.password }}"
  vars:
    admin: "{{ lookup('latchkey.postgres.aws_pg_secret', 'rds-admin/orders', region='eu-west-1') }}"
    connector: "{{ lookup('latchkey.postgres.aws_pg_secret', 'apono/orders', region='eu-west-1') }}"

- name: Read two secrets at once, and go on if one is missing
  ansible.builtin.set_fact:
    found: "{{ query('latchkey.postgres.aws_pg_secret', 'apono/orders', 'apono/billing', on_missing='skip') }}"
  no_log: true

- name: Log in with the password before the last rotation
  ansible.builtin.set_fact:
    before: "{{ lookup('latchkey.postgres.aws_pg_secret', 'apono/orders', version_stage='AWSPREVIOUS') }}"
  no_log: true
"""

RETURN = r"""
_raw:
  description: For each secret its credentials, with all other keys of the object.
  type: list
  elements: dict
  sample:
    - username: apono_connector
      password: "********"
      engine: postgres
      host: orders.abc123.eu-west-1.rds.amazonaws.com
      port: 5432
      dbname: postgres
"""

from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Aws
from ansible_collections.latchkey.postgres.plugins.plugin_utils._lookup import SecretLookup


class LookupModule(SecretLookup):
    cloud = Aws
