# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Stands in for the script that ansible-test would download to put pip into its virtual environments.

Python brings a pip of its own; that one then installs what is asked for from the configured index.
"""

from __future__ import annotations

import ensurepip
import os
import subprocess
import sys


def main() -> int:
    """Install the packages named on the command line."""
    # Copied first: ensurepip removes pip's settings from the environment.
    environment = dict(os.environ)
    ensurepip.bootstrap(default_pip=True)
    # Options of the original, for packages that the bundled pip does not bring anyway.
    wanted = [word for word in sys.argv[1:] if word not in {"--no-setuptools", "--no-wheel"}]
    return subprocess.call([sys.executable, "-m", "pip", "install", *wanted], env=environment)


if __name__ == "__main__":
    sys.exit(main())
