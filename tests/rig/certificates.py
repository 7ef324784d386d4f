# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Throw-away certificate authorities."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import trustme


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A certificate authority that lives as long as the object; each one trusts only itself."""

    _ca: trustme.CA = field(default_factory=trustme.CA, repr=False)

    def write_ca(self, path: Path) -> Path:
        """Write the CA certificate, for clients' `sslrootcert`."""
        self._ca.cert_pem.write_to_path(str(path))
        return path

    def write_server(self, *, certificate: Path, key: Path, names: tuple[str, ...]) -> None:
        """Issue a server certificate; the key is readable by its owner only."""
        issued = self._ca.issue_cert(*names)
        key.touch(mode=0o600)
        issued.private_key_pem.write_to_path(str(key))
        certificate.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
