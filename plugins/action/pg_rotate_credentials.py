# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later


from __future__ import annotations

from ansible_collections.latchkey.postgres.plugins.module_utils._rotation.run import ROTATE
from ansible_collections.latchkey.postgres.plugins.plugin_utils._direct import DirectAction


class ActionModule(DirectAction):
    door = ROTATE
