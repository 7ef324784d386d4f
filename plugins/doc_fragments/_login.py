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
      - The role to log in as.
      - If not set, the environment variable E(PGUSER) is used.
    type: str
    required: true
  login_password:
    description:
      - Its password, or a token of the cloud that serves as one.
      - If not set, the environment variable E(PGPASSWORD) is used.
    type: str
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
notes:
  - The connection must be direct or through a pooler in session mode, because a lock and settings live in the session.
"""
