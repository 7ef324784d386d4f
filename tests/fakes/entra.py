# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A strict Microsoft Entra: it gives tokens to those it knows, for the services of its cloud."""

from __future__ import annotations

import base64
import json
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from tests.fakes.service import Call, Refusal, Reply

ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
# Login host -> the audiences that it gives tokens for.
CLOUDS = {
    "login.microsoftonline.com": ("https://vault.azure.net", "https://ossrdbms-aad.database.windows.net"),
    "login.microsoftonline.us": (
        "https://vault.usgovcloudapi.net",
        "https://ossrdbms-aad.database.usgovcloudapi.net",
    ),
    "login.chinacloudapi.cn": ("https://vault.azure.cn", "https://ossrdbms-aad.database.chinacloudapi.cn"),
}


@dataclass(frozen=True, kw_only=True)
class Application:
    """Someone with a client id, who proves it with a secret or with a federated token."""

    client_id: str
    tenant: str
    secret: str
    federated_token: str


@dataclass(frozen=True, kw_only=True)
class Token:
    """What was given to whom, for which service."""

    text: str = field(repr=False)
    tenant: str
    principal: str
    audience: str
    expires: int


@dataclass(kw_only=True, eq=False)
class Directory:
    """All clouds' directories, and the managed identities of this machine.

    Who has a token is known as a principal: its client id.
    """

    tenant: str
    applications: dict[str, Application]
    system_identity: str | None
    user_identities: set[str] = field(default_factory=set)
    identity_header: str = "fake-identity-header"
    lifetime: int = 3600
    tokens: dict[str, Token] = field(default_factory=dict)

    def instance(self, call: Call) -> Reply:
        """Name the hosts that are one cloud's; what msal asks to be sure of its authority."""
        endpoint = call.query.get("authorization_endpoint", "")
        names = {"preferred_network": call.host, "preferred_cache": call.host, "aliases": [call.host]}
        discovery = endpoint.replace("/oauth2/v2.0/authorize", "/v2.0/.well-known/openid-configuration")
        return Reply(body={"tenant_discovery_endpoint": discovery, "api-version": "1.1", "metadata": [names]})

    def openid(self, call: Call) -> Reply:
        """Say where a tenant's tokens are given."""
        tenant = self._tenant(call)
        base = f"https://{call.host}/{tenant}"
        return Reply(
            body={
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "jwks_uri": f"{base}/discovery/v2.0/keys",
            }
        )

    def token(self, call: Call) -> Reply:
        """Give a token to an application that proves who it is."""
        tenant, form = self._tenant(call), dict(parse_qsl(call.body.decode()))
        if form.get("grant_type") != "client_credentials":
            raise Refusal("unsupported_grant_type", "AADSTS70003: The app requested an unsupported grant type.")
        application = self.applications.get(form.get("client_id", ""))
        if application is None or application.tenant != tenant:
            raise Refusal(
                "unauthorized_client",
                f"AADSTS700016: Application with identifier '{form.get('client_id')}' "
                f"was not found in the directory '{tenant}'.",
            )
        self._prove(application, form)
        resource, slash, kind = form.get("scope", "").split(" ")[0].rpartition("/")
        if f"{slash}{kind}" != "/.default":
            raise Refusal(
                "invalid_scope", f"AADSTS1002012: The provided value for scope {form.get('scope')} is not valid."
            )
        token = self._issue(tenant=tenant, principal=application.client_id, audience=resource, host=call.host)
        return Reply(
            body={
                "token_type": "Bearer",
                "expires_in": self.lifetime,
                "ext_expires_in": self.lifetime,
                "access_token": token.text,
            }
        )

    def managed(self, call: Call) -> Reply:
        """Give a token to this machine, as the endpoint of App Service does."""
        if call.headers.get("x-identity-header") != self.identity_header:
            raise Refusal("Forbidden", "The identity header is not right.", status=403)
        client_id = call.query.get("client_id")
        principal = client_id if client_id in self.user_identities else None if client_id else self.system_identity
        if principal is None:
            raise Refusal("BadRequest", "No Managed Identity found for specified ClientId/ResourceId/PrincipalId.")
        audience = call.query.get("resource", "").removesuffix("/")
        token = self._issue(tenant=self.tenant, principal=principal, audience=audience)
        return Reply(
            body={
                "access_token": token.text,
                "expires_on": str(token.expires),
                "resource": audience,
                "token_type": "Bearer",
                "client_id": principal,
            }
        )

    def _tenant(self, call: Call) -> str:
        tenant = call.path.split("/")[1]
        if tenant not in {self.tenant, *(one.tenant for one in self.applications.values())}:
            raise Refusal(
                "invalid_request",
                f"AADSTS90002: Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID "
                "and are signing into the correct cloud.",
            )
        return tenant

    @staticmethod
    def _prove(application: Application, form: Mapping[str, str]) -> None:
        if "client_assertion" in form:
            right = form["client_assertion"] == application.federated_token
            if not right or form.get("client_assertion_type") != ASSERTION:
                raise Refusal("invalid_client", "AADSTS50027: JWT token is invalid or malformed.", status=401)
        elif "client_secret" not in form:
            raise Refusal(
                "invalid_client",
                "AADSTS7000216: 'client_assertion', 'client_secret' or 'request' is required "
                "for the 'client_credentials' grant type.",
                status=401,
            )
        elif form["client_secret"] != application.secret:
            raise Refusal(
                "invalid_client",
                "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is "
                "the client secret value, not the client secret ID, for a secret added to app "
                f"'{application.client_id}'.",
                status=401,
            )

    def _issue(self, *, tenant: str, principal: str, audience: str, host: str | None = None) -> Token:
        served = CLOUDS[host] if host else [name for names in CLOUDS.values() for name in names]
        if audience not in served:
            raise Refusal(
                "invalid_resource",
                f"AADSTS500011: The resource principal named {audience} was not found in the tenant named {tenant}.",
            )
        now = int(time.time())
        claims = {"aud": audience, "tid": tenant, "appid": principal, "oid": principal, "iat": now}
        expires = now + self.lifetime
        text = jwt({**claims, "exp": expires, "uti": secrets.token_urlsafe(16)})
        token = Token(text=text, tenant=tenant, principal=principal, audience=audience, expires=expires)
        self.tokens[text] = token
        return token


def jwt(claims: Mapping[str, Any]) -> str:
    """Return something of the shape of a token; nobody but the fakes believes its signature."""
    parts = [json.dumps(part).encode() for part in ({"typ": "JWT", "alg": "RS256"}, claims)]
    return ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in (*parts, secrets.token_bytes(256)))


def entra_error(refusal: Refusal) -> Reply:
    """Say no, as Entra does."""
    body = {
        "error": refusal.code,
        "error_description": refusal.message,
        "error_codes": [int(number) for number in re.findall(r"AADSTS(\d+)", refusal.message)],
    }
    return Reply(status=refusal.status, body=body, headers=refusal.headers)


def managed_error(refusal: Refusal) -> Reply:
    """Say no, as App Service does."""
    body = {"statusCode": refusal.status, "message": refusal.message}
    return Reply(status=refusal.status, body=body, headers=refusal.headers)
