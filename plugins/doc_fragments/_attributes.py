# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change or go at any time.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options: {}
attributes:
  check_mode:
    description: Can run in C(check_mode) and tell what would change without changing it.
  diff_mode:
    description: Returns what has changed, or would in check mode, when the task runs with C(diff).
  idempotent:
    description: A second run with the same options changes nothing and writes nothing.
  action_group:
    description: Use C(group/latchkey.postgres.pg) in C(module_defaults) to set the login once.
    support: full
    membership:
      - latchkey.postgres.pg
  platform:
    description: Where the task can run.
    support: full
    platforms: posix
"""
