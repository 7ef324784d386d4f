# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: azure_pg_token
short_description: A token that logs in to Azure Database for PostgreSQL
version_added: 1.0.0
author:
  - Latchkey contributors (@latchkey-collection)
description:
  - Gets the token of Microsoft Entra ID that serves as the password of a principal of the server. It is valid for about
    an hour, for new connections.
options:
  _terms:
    description:
      - Servers, as they will be connected to. Only their cloud (public, US government, China) makes a difference.
    type: list
    elements: str
    required: true
extends_documentation_fragment:
  - latchkey.postgres._azure
seealso:
  - name: Entra authentication of flexible server
    description: How to make a principal on the server.
    link: https://learn.microsoft.com/azure/postgresql/flexible-server/how-to-configure-sign-in-azure-ad-authentication
"""

EXAMPLES = r"""
- name: Bootstrap an Azure server as an Entra administrator
  latchkey.postgres.pg_apono_bootstrap:
    login_host: "{{ pg_host }}"
    login_user: dba-team
    login_password: "{{ lookup('latchkey.postgres.azure_pg_token', pg_host) }}"
    ca_cert: "{{ pg_ca_cert }}"

- name: The same, with the token fetched by the module itself
  latchkey.postgres.pg_apono_bootstrap:
    login_host: "{{ pg_host }}"
    login_user: dba-team
    login_auth: entra
    ca_cert: "{{ pg_ca_cert }}"
"""

RETURN = r"""
_raw:
  description: For each server a token. It is as secret as a password.
  type: list
  elements: str
"""

from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.tokens import entra_token
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Azure
from ansible_collections.latchkey.postgres.plugins.plugin_utils._lookup import CloudLookup


class LookupModule(CloudLookup):
    cloud = Azure

    def answer(self, terms: list[str]) -> list[str]:
        return [entra_token(self.identity(), host=host) for host in terms]
