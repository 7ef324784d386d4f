# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: azure_pg_secret
short_description: Credentials of PostgreSQL from Azure Key Vault
version_added: 1.0.0
author:
  - Latchkey contributors (@latchkey-collection)
description:
  - Reads secrets of Azure Key Vault and returns each as a dictionary.
  - A secret is a JSON object with C(username) and C(password), and where known C(engine), C(host), C(port), C(dbname)
    and C(masterarn), as the vendors write it; or a bare password, with O(username).
  - Several secrets are fetched at once. In one process each is fetched once, through one client. Nothing is kept on
    disk.
  - A secret outside its period of validity is refused, although the service hands it out.
options:
  _terms:
    description:
      - Names of secrets in the vault O(vault_url), or whole URLs such as
        C(https://acme.vault.azure.net/secrets/apono-orders), with or without a version.
    type: list
    elements: str
    required: true
  version_stage:
    description:
      - V(current) is the latest version.
      - V(previous) is the one that the last rotation replaced, else the youngest but one that is enabled.
      - V(pending) is the latest version of the secret whose name ends in C(-pending), where a rotation keeps the
        password that it is about to set.
    type: str
    choices: [current, previous, pending]
    default: current
  version_id:
    description: The version to read, instead of O(version_stage). One in the URL wins.
    type: str
extends_documentation_fragment:
  - latchkey.postgres._secret
  - latchkey.postgres._azure
seealso:
  - plugin: latchkey.postgres.azure_pg_token
    plugin_type: lookup
"""

EXAMPLES = r"""
- name: Bootstrap an Azure server as the administrator that a secret knows
  latchkey.postgres.pg_apono_bootstrap:
    login_host: "{{ pg_host }}"
    login_user: "{{ admin.username }}"
    login_password: "{{ admin.password }}"
    ca_cert: "{{ pg_ca_cert }}"
    connector_password: "{{ connector.password }}"
  vars:
    admin: "{{ lookup('latchkey.postgres.azure_pg_secret', 'pg-admin-billing', vault_url=vault_url) }}"
    connector: "{{ lookup('latchkey.postgres.azure_pg_secret', 'https://acme.vault.azure.net/secrets/apono-billing') }}"
    vault_url: https://acme.vault.azure.net

- name: Read a bare password, as a service principal
  ansible.builtin.set_fact:
    found: >-
      {{ lookup('latchkey.postgres.azure_pg_secret', 'billing-password', username='pgadmin',
                vault_url='https://acme.vault.azure.net',
                tenant=tenant, client_id=client_id, client_secret=client_secret) }}
  no_log: true

- name: Read two secrets at once, and go on if one is missing
  ansible.builtin.set_fact:
    found: >-
      {{ query('latchkey.postgres.azure_pg_secret', 'apono-billing', 'apono-orders', on_missing='skip',
               vault_url='https://acme.vault.azure.net') }}
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
      host: billing.postgres.database.azure.com
      port: 5432
      dbname: postgres
"""

from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Azure
from ansible_collections.latchkey.postgres.plugins.plugin_utils._lookup import SecretLookup


class LookupModule(SecretLookup):
    cloud = Azure
