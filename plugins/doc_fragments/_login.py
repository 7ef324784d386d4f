# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change or go at any time.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  login_host:
    description:
      - The server's address, as its certificate names it.
      - If not set, the environment variable E(PGHOST) is used.
    type: str
    required: true
  login_port:
    description:
      - The server's port.
      - If not set, the environment variable E(PGPORT) is used.
    type: int
    default: 5432
  login_user:
    description:
      - The role to log in as. Needed unless O(login_secret) names it, which wins.
      - If not set, the environment variable E(PGUSER) is used.
    type: str
  login_password:
    description:
      - Its password, or a token of the cloud that serves as one. O(login_secret) and O(login_auth) win over it.
      - If not set, the environment variable E(PGPASSWORD) is used.
    type: str
  login_secret:
    description:
      - The secret in O(secret_store) that holds the user name and the password to log in with, as a JSON object with
        C(username) and C(password); or the password alone, of O(login_user). The task fetches it by itself, so that the
        password is in no variable of Ansible.
      - A name or an ARN in AWS Secrets Manager; a name or a URL in Azure Key Vault.
    type: str
  login_auth:
    description:
      - V(password) takes O(login_secret) or O(login_password).
      - V(rds_iam) makes a token for O(login_user), a role with C(rds_iam), as the identity in O(secret_store) or the
        one that AWS's standard chain finds. It is valid for 15 minutes, for new connections.
      - V(entra) gets a token of Microsoft Entra ID for O(login_user), as the identity in O(secret_store) or the one
        that the environment gives. It is valid for about an hour, for new connections.
      - A token is sent as it is, so O(ssl_mode) must be V(require) or better.
    type: str
    choices: [password, rds_iam, entra]
    default: password
  login_db:
    description:
      - The maintenance database, to which the first connection goes. All runs against a server must use the same,
        because the lock that keeps them apart belongs to it.
      - If not set, the environment variable E(PGDATABASE) is used.
    type: str
    default: postgres
  ssl_mode:
    description:
      - How the connection is protected. V(disable) never uses TLS; V(allow) uses it if the server insists; V(prefer)
        uses it if the server can; V(require) insists on it, and looks at the certificate only if O(ca_cert) is given;
        V(verify-ca) also checks who signed the certificate; V(verify-full) also checks that it names O(login_host).
      - If not set, the environment variable E(PGSSLMODE) is used.
    type: str
    choices: [disable, allow, prefer, require, verify-ca, verify-full]
    default: verify-full
  ca_cert:
    description:
      - A PEM file with the authorities that may have signed the server's certificate.
      - Without it, V(verify-ca) and V(verify-full) trust those of the system. RDS needs its own bundle, see
        U(https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem).
      - If not set, the environment variable E(PGSSLROOTCERT) is used.
    type: path
    aliases: [ssl_rootcert]
  ssl_cert:
    description:
      - A PEM file with the client's certificate.
      - If not set, the environment variable E(PGSSLCERT) is used.
    type: path
  ssl_key:
    description:
      - A PEM file with the key of O(ssl_cert).
      - If not set, the environment variable E(PGSSLKEY) is used.
    type: path
  connect_params:
    description:
      - Further parameters of libpq by their names. They win over all other options.
      - A password belongs in O(login_password), where it is hidden from the very start.
      - See U(https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS).
    type: dict
    default: {}
  connect_timeout:
    description:
      - How long to wait for one connection, in seconds.
      - If not set, the environment variable E(PGCONNECT_TIMEOUT) is used.
    type: int
    default: 10
  secret_store:
    description:
      - Where secrets are, and as whom to ask for them and for tokens. What is not given, the SDK of the cloud finds.
    type: dict
    suboptions:
      provider:
        description: V(aws) is AWS Secrets Manager, V(azure) is Azure Key Vault.
        type: str
        choices: [aws, azure]
        required: true
      region:
        description: AWS. The region; an ARN tells its own. If not set, AWS's own chain is used, such as E(AWS_REGION).
        type: str
      profile:
        description: AWS. A profile of its shared files.
        type: str
      access_key:
        description: AWS. The id of an access key. If not set, AWS's own chain is used, such as E(AWS_ACCESS_KEY_ID).
        type: str
        aliases: [aws_access_key_id]
      secret_key:
        description: AWS. The secret of the access key.
        type: str
        aliases: [aws_secret_access_key]
      session_token:
        description: AWS. The session that a temporary access key belongs to.
        type: str
        aliases: [aws_session_token]
      assume_role_arn:
        description: AWS. A role to act as, from the identity that the other options give.
        type: str
      endpoint_url:
        description: AWS. The address of Secrets Manager, such as that of a VPC endpoint.
        type: str
      vault_url:
        description:
          - Azure. The vault, such as V(https://acme.vault.azure.net). Its domain tells the cloud, public or sovereign.
          - Needed unless secrets are named by their URLs.
        type: str
      tenant:
        description:
          - Azure. The tenant of a service principal.
          - If not set, the environment variable E(AZURE_TENANT_ID) is used, else AWX's E(AZURE_TENANT).
        type: str
        aliases: [tenant_id]
      client_id:
        description:
          - Azure. The id of a service principal, or of a user-assigned managed identity.
          - If not set, the environment variable E(AZURE_CLIENT_ID) is used.
        type: str
      client_secret:
        description:
          - Azure. The secret of the service principal. Without one, C(DefaultAzureCredential) tries a workload
            identity, a managed identity and the login of the command line tools.
          - If not set, the environment variable E(AZURE_CLIENT_SECRET) is used, else AWX's E(AZURE_SECRET).
        type: str
        aliases: [secret]
  direct:
    description:
      - V(auto) does the work inside the Ansible worker when the task's connection is C(local), without become, async,
        C(environment) or another Python. That saves a process for each host.
      - V(never) always starts the module.
      - The variable C(latchkey_direct) and the environment variable E(LATCHKEY_DIRECT) are used if this is not set.
    type: str
    choices: [auto, never]
    default: auto
requirements:
  - Python >= 3.10
  - psycopg >= 3.2 (the package C(psycopg[binary]) brings libpq along)
  - boto3, if secrets or tokens come from AWS
  - azure-identity and azure-keyvault-secrets, if they come from Azure
notes:
  - The connection must be direct or through a pooler in session mode, because a lock and settings live in the session.
"""
