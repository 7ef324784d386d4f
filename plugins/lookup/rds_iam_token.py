# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: rds_iam_token
short_description: A token that logs in to Amazon RDS or Aurora PostgreSQL
version_added: 1.0.0
author:
  - Latchkey contributors (@latchkey-collection)
description:
  - Makes the token that serves as the password of a role with C(rds_iam). It is valid for 15 minutes, for new
    connections.
  - It is made where Ansible runs. AWS is asked only for the identity itself.
  - The identity needs C(rds-db:connect) for the role, and the connection must use TLS.
options:
  _terms:
    description: Endpoints of servers, as they will be connected to.
    type: list
    elements: str
    required: true
  user:
    description: The role to log in as.
    type: str
    required: true
  port:
    description: The port that will be connected to.
    type: int
    default: 5432
  region:
    description:
      - The region of the server. The name of an endpoint tells it, and wins. RDS accepts no token for a name of your
        own.
extends_documentation_fragment:
  - latchkey.postgres._aws
seealso:
  - name: IAM database authentication
    description: How RDS checks the token.
    link: https://docs.aws.amazon.com/AmazonRDS/latest/UserGuide/UsingWithRDS.IAMDBAuth.html
"""

EXAMPLES = r"""
- name: Bootstrap an RDS server as an administrator with rds_iam
  latchkey.postgres.pg_apono_bootstrap:
    login_host: "{{ pg_host }}"
    login_user: iam_admin
    login_password: "{{ lookup('latchkey.postgres.rds_iam_token', pg_host, user='iam_admin') }}"
    ca_cert: "{{ pg_ca_cert }}"

- name: The same, with the token made by the module itself
  latchkey.postgres.pg_apono_bootstrap:
    login_host: "{{ pg_host }}"
    login_user: iam_admin
    login_auth: rds_iam
    ca_cert: "{{ pg_ca_cert }}"
"""

RETURN = r"""
_raw:
  description: For each endpoint its token. It is as secret as a password.
  type: list
  elements: str
"""

from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.tokens import rds_iam_token
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Aws
from ansible_collections.latchkey.postgres.plugins.plugin_utils._lookup import CloudLookup


class LookupModule(CloudLookup):
    cloud = Aws

    def answer(self, terms: list[str]) -> list[str]:
        identity, port, user = self.identity(), self.get_option("port"), self.get_option("user")
        return [rds_iam_token(identity, host=host, port=port, user=user) for host in terms]
