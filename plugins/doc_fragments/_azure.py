# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change or go at any time.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  vault_url:
    description:
      - The vault, such as V(https://acme.vault.azure.net). Its domain tells the cloud, public or sovereign.
    type: str
    env:
      - name: LATCHKEY_AZURE_VAULT_URL
    ini:
      - section: latchkey
        key: azure_vault_url
    vars:
      - name: latchkey_azure_vault_url
  tenant:
    description:
      - The tenant of a service principal.
      - If it is not set, the environment variable E(AZURE_TENANT_ID) is used, else AWX's E(AZURE_TENANT).
    type: str
    aliases: [tenant_id]
    env:
      - name: LATCHKEY_AZURE_TENANT
    ini:
      - section: latchkey
        key: azure_tenant
    vars:
      - name: latchkey_azure_tenant
  client_id:
    description:
      - The id of a service principal, or of a user-assigned managed identity.
      - If it is not set, the environment variable E(AZURE_CLIENT_ID) is used.
    type: str
    env:
      - name: LATCHKEY_AZURE_CLIENT_ID
    ini:
      - section: latchkey
        key: azure_client_id
    vars:
      - name: latchkey_azure_client_id
  client_secret:
    description:
      - The secret of the service principal.
      - If it is not set, the environment variable E(AZURE_CLIENT_SECRET) is used, else AWX's E(AZURE_SECRET).
    type: str
    aliases: [secret]
    env:
      - name: LATCHKEY_AZURE_CLIENT_SECRET
    ini:
      - section: latchkey
        key: azure_client_secret
    vars:
      - name: latchkey_azure_client_secret
requirements:
  - azure-identity
  - azure-keyvault-secrets
notes:
  - Without a service principal, C(DefaultAzureCredential) tries a workload identity, a managed identity and the login
    of the command line tools, in its own order.
"""
