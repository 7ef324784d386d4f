# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The one exception of the rig."""

from __future__ import annotations


class RigError(RuntimeError):
    """The rig could not provide what was asked for; the message is one line for a human."""
