# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Azure as clients with default settings meet it: sign-in, managed identity and Key Vault.

Nothing in the client knows of the fake. A proxy, which the environment names, brings the real host
names here, and a certificate authority, which the environment names too, vouches for them.
"""

from __future__ import annotations

import contextlib
import re
import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.fakes.entra import CLOUDS, Application, Directory, Token, entra_error, jwt, managed_error
from tests.fakes.keyvault import Vault, vault_error
from tests.fakes.proxy import ConnectProxy, connect_proxy
from tests.fakes.service import Call, Refusal, Reply, Request, Service, around_proxies, serving
from tests.rig.certificates import Authority

Identity = Literal["secret", "awx", "managed", "workload", "none"]

TENANT = "11111111-1111-4111-8111-111111111111"
CLIENT = "22222222-2222-4222-8222-222222222222"
SYSTEM_IDENTITY = "33333333-3333-4333-8333-333333333333"
LOGINS = {audiences[0].removeprefix("https://"): login for login, audiences in CLOUDS.items()}
LOCAL = "127.0.0.1"

# (method, path) -> operation, for vaults and for the others.
NAMED = r"/(?P<name>[^/]*)"
VAULT_ROUTES = [
    ("PUT", rf"/secrets{NAMED}/?", "set_secret"),
    ("GET", r"/secrets/?", "list_secrets"),
    ("GET", rf"/secrets{NAMED}/versions", "list_versions"),
    ("GET", rf"/secrets{NAMED}(/(?P<version>\w*))?", "get_secret"),
    ("PATCH", rf"/secrets{NAMED}(/(?P<version>\w*))?", "update_secret"),
    ("DELETE", rf"/secrets{NAMED}", "delete_secret"),
    ("GET", r"/deletedsecrets/?", "list_deleted"),
    ("GET", rf"/deletedsecrets{NAMED}", "get_deleted"),
    ("POST", rf"/deletedsecrets{NAMED}/recover", "recover_secret"),
    ("DELETE", rf"/deletedsecrets{NAMED}", "purge_secret"),
]
LOGIN_ROUTES = [
    ("GET", r"/common/discovery/instance", "instance"),
    ("GET", r"/[^/]+/v2.0/\.well-known/openid-configuration", "openid"),
    ("POST", r"/[^/]+/oauth2/v2\.0/token", "token"),
]
LOCAL_ROUTES = [("GET", r"/msi/token", "managed_token")]
UNKNOWN = "unknown"


@dataclass(frozen=True, kw_only=True)
class AzureRequest(Request):
    """What a client asked for, of which host; `token` is the one that it showed."""

    method: str
    host: str
    path: str
    name: str
    version: str
    body: bytes = field(repr=False)
    token: Token | None


@dataclass(kw_only=True, eq=False)
class FakeAzure(Service[AzureRequest]):
    """Azure with some vaults, one application and a machine with a managed identity.

    A vault that is not in `vaults` has no host name: the proxy refuses it.
    """

    tenant: str = TENANT
    client_id: str = CLIENT
    client_secret: str = "fake~client~secret"
    system_identity: str | None = SYSTEM_IDENTITY

    vaults: dict[str, Vault] = field(default_factory=dict, init=False)
    directory: Directory = field(init=False)
    proxy: ConnectProxy = field(init=False)
    _folder: Path = field(init=False, repr=False)
    _managed_url: str = field(default="", init=False)

    def __post_init__(self) -> None:
        """Register the application."""
        application = Application(
            client_id=self.client_id,
            tenant=self.tenant,
            secret=self.client_secret,
            federated_token=jwt({"iss": "https://oidc.example.com", "sub": "system:serviceaccount:fake:fake"}),
        )
        self.directory = Directory(
            tenant=self.tenant,
            applications={self.client_id: application},
            system_identity=self.system_identity,
        )

    @property
    def tokens(self) -> dict[str, Token]:
        """All tokens that were given, by their text."""
        return self.directory.tokens

    def add_vault(self, name: str, *, suffix: str = "vault.azure.net", tenant: str | None = None) -> Vault:
        """Make a vault."""
        if suffix not in LOGINS:
            msg = f"{suffix} is none of {', '.join(LOGINS)}"
            raise ValueError(msg)
        vault = self.vaults[name] = Vault(name=name, suffix=suffix, tenant=tenant or self.tenant)
        return vault

    def environment(self, identity: Identity = "secret") -> dict[str, str]:
        """Return the variables that bring Azure clients here, with an identity or none.

        To be put on top of a `clean_environment`: the SDK takes empty variables for set ones.
        """
        application = self.directory.applications[self.client_id]
        known = {"AZURE_CLIENT_ID": self.client_id}
        identities: dict[str, dict[str, str]] = {
            "secret": {**known, "AZURE_TENANT_ID": self.tenant, "AZURE_CLIENT_SECRET": application.secret},
            "awx": {**known, "AZURE_TENANT": self.tenant, "AZURE_SECRET": application.secret},
            "managed": {"IDENTITY_ENDPOINT": self._managed_url, "IDENTITY_HEADER": self.directory.identity_header},
            "workload": {
                **known,
                "AZURE_TENANT_ID": self.tenant,
                "AZURE_FEDERATED_TOKEN_FILE": str(self._folder / "federated_token"),
            },
            "none": {},
        }
        # Some clients prefer the one, some the other; plain HTTP too, so that nobody finds a real metadata service.
        proxies = dict.fromkeys(("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"), self.proxy.url)
        return {
            **proxies,
            **around_proxies(),
            "REQUESTS_CA_BUNDLE": str(self._folder / "ca.pem"),
            **identities[identity],
        }

    def operations(self) -> set[str]:
        """Return the names of all operations."""
        return {operation for method, path, operation in (*VAULT_ROUTES, *LOGIN_ROUTES, *LOCAL_ROUTES)}

    def start(self, stack: contextlib.ExitStack) -> None:
        """Start the three servers: for the real names, for the machine's own identity, and the proxy."""
        self._folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fake-azure-")))
        (self._folder / "federated_token").write_text(self.directory.applications[self.client_id].federated_token)
        cloud = stack.enter_context(serving(self.answer, tls=self._tls()))
        machine = stack.enter_context(serving(self.answer))
        self._managed_url = f"http://{LOCAL}:{machine.port}/msi/token"
        self.proxy = stack.enter_context(
            connect_proxy(lambda host: cloud.port if host in CLOUDS or self._vault(host) else None)
        )

    def read(self, call: Call) -> AzureRequest:
        """Say what is asked for."""
        routes = LOGIN_ROUTES if call.host in CLOUDS else LOCAL_ROUTES if call.host == LOCAL else VAULT_ROUTES
        operation, named = UNKNOWN, {}
        for method, pattern, candidate in routes:
            match = re.fullmatch(pattern, call.path)
            if match and method == call.method:
                operation, named = candidate, match.groupdict()
                break
        scheme, space, text = call.headers.get("authorization", "").partition(" ")
        return AzureRequest(
            operation=operation,
            method=call.method,
            host=call.host,
            path=call.path,
            name=named.get("name") or "",
            version=named.get("version") or "",
            body=call.body,
            token=self.tokens.get(text) if f"{scheme}{space}" == "Bearer " else None,
        )

    def admit(self, call: Call, request: AzureRequest) -> None:
        """Refuse what there is not, and who may not."""
        if request.operation == UNKNOWN:
            raise Refusal("NotFound", f"The fake has no {call.method} {call.path}.", status=404)
        vault = self._vault(call.host)
        if vault:
            vault.admit(token=request.token, login=LOGINS[vault.suffix], operation=request.operation)

    def act(self, call: Call, request: AzureRequest) -> Reply:
        """Do what is asked for, or refuse it."""
        vault = self._vault(call.host)
        if vault:
            return vault.act(call, operation=request.operation, name=request.name, version=request.version)
        return self._sign_in()[request.operation](call)

    def refuse(self, refusal: Refusal, request: AzureRequest) -> Reply:
        """Say no, in the way of the host."""
        if request.host in CLOUDS:
            return entra_error(refusal)
        return managed_error(refusal) if request.host == LOCAL else vault_error(refusal)

    def _sign_in(self) -> dict[str, Callable[[Call], Reply]]:
        directory = self.directory
        return {
            "instance": directory.instance,
            "openid": directory.openid,
            "token": directory.token,
            "managed_token": directory.managed,
        }

    def _vault(self, host: str) -> Vault | None:
        return next((vault for vault in self.vaults.values() if vault.host == host), None)

    def _tls(self) -> ssl.SSLContext:
        authority = Authority()
        authority.write_ca(self._folder / "ca.pem")
        certificate, key = self._folder / "server.pem", self._folder / "server.key"
        names = (*CLOUDS, *(f"*.{suffix}" for suffix in LOGINS))
        authority.write_server(certificate=certificate, key=key, names=names)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        return context
