# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change or go at any time.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  username:
    description: The user, where a secret does not name one.
    type: str
    env:
      - name: LATCHKEY_SECRET_USERNAME
    ini:
      - section: latchkey
        key: secret_username
    vars:
      - name: latchkey_secret_username
  on_missing:
    description:
      - What to do if a secret, or the version of it, does not exist or is deleted.
      - V(error) fails, V(warn) leaves it out of the result with a warning, V(skip) leaves it out.
    type: str
    choices: [error, warn, skip]
    default: error
    env:
      - name: LATCHKEY_ON_MISSING
    ini:
      - section: latchkey
        key: on_missing
    vars:
      - name: latchkey_on_missing
  on_denied:
    description:
      - What to do if access to a secret is denied. The choices mean the same.
    type: str
    choices: [error, warn, skip]
    default: error
    env:
      - name: LATCHKEY_ON_DENIED
    ini:
      - section: latchkey
        key: on_denied
    vars:
      - name: latchkey_on_denied
  cache:
    description:
      - Take what this process has fetched before. With V(false) the store is asked again, for example after a rotation.
    type: bool
    default: true
    env:
      - name: LATCHKEY_SECRET_CACHE
    ini:
      - section: latchkey
        key: secret_cache
    vars:
      - name: latchkey_secret_cache
"""
