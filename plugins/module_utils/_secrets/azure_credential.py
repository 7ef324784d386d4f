# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Azure's SDK: the credential, and what its errors mean."""

from __future__ import annotations

import collections.abc as c
import contextlib
import logging
import os
import re
import traceback
import typing as t
import urllib.parse

from ansible.module_utils.basic import missing_required_lib

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    InvalidOption,
    LatchkeyError,
    LibraryMissing,
    NotAuthenticated,
    SecretChanged,
    SecretDeleted,
    SecretDenied,
    SecretDisabled,
    SecretMissing,
    SecretUnreadable,
)

if t.TYPE_CHECKING:
    from azure.core import exceptions
    from azure.core.credentials import TokenCredential
    from azure.identity import (
        ClientSecretCredential,
        CredentialUnavailableError,
        DefaultAzureCredential,
        WorkloadIdentityCredential,
    )

    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Azure

AZURE_TRACEBACK: str | None = None

if not t.TYPE_CHECKING:
    try:
        from azure.core import exceptions
        from azure.identity import (
            ClientSecretCredential,
            CredentialUnavailableError,
            DefaultAzureCredential,
            WorkloadIdentityCredential,
        )
    except ImportError:
        exceptions = None
        AZURE_TRACEBACK = traceback.format_exc()

# Without a handler Python would print the SDK's warnings, in the midst of Ansible's output.
logging.getLogger("azure").addHandler(logging.NullHandler())

# A service that does not answer is given up within 15 seconds; one that says "too many requests" is asked again.
PATIENCE = {
    "connection_timeout": 2,
    "read_timeout": 5,
    "retry_connect": 1,
    "retry_read": 1,
    "retry_status": 4,
    "retry_total": 4,
    "retry_backoff_max": 4,
}
# The services of a sovereign cloud end in its domain: its place of login, and the name of PostgreSQL's tokens.
PUBLIC = ("login.microsoftonline.com", "https://ossrdbms-aad.database.windows.net/.default")
SOVEREIGN: c.Mapping[str, tuple[str, str]] = {
    "usgovcloudapi.net": ("login.microsoftonline.us", "https://ossrdbms-aad.database.usgovcloudapi.net/.default"),
    "azure.us": ("login.microsoftonline.us", "https://ossrdbms-aad.database.usgovcloudapi.net/.default"),
    "azure.cn": ("login.chinacloudapi.cn", "https://ossrdbms-aad.database.chinacloudapi.cn/.default"),
    "chinacloudapi.cn": ("login.chinacloudapi.cn", "https://ossrdbms-aad.database.chinacloudapi.cn/.default"),
}
CHAIN = (
    "Give tenant, client_id and client_secret, here or in the environment as AZURE_TENANT_ID, AZURE_CLIENT_ID and"
    " AZURE_CLIENT_SECRET (or AWX's AZURE_TENANT and AZURE_SECRET); else DefaultAzureCredential tries a workload"
    " identity, a managed identity and the login of the command line tools"
)
LOGIN = "Check tenant, client_id and client_secret"
# The codes of Entra ID: https://learn.microsoft.com/entra/identity-platform/reference-error-codes
LOGIN_REFUSALS = {
    "AADSTS90002": "the tenant does not exist",
    "AADSTS900021": "the tenant does not exist",
    "AADSTS900023": "the tenant is not a name or id of one",
    "AADSTS700016": "the tenant does not know the client_id",
    "AADSTS7000215": "the client_secret is wrong",
    "AADSTS7000222": "the client_secret has expired",
}
AADSTS = re.compile(r"AADSTS\d+")
RECOVER = "Recover it (az keyvault secret recover), or purge it"
RIGHTS = "Allow this identity to get secrets (role Key Vault Secrets User), or to set them too (Secrets Officer)"
# The words of the SDK where there is no code of Entra ID.
LOGIN_WORDS = {
    "acquire tokens for tenant": "the vault belongs to another tenant than the credentials",
    "Unable to get authority configuration": "the tenant does not exist, or not in this cloud",
}
NONE_FITS = "failed to retrieve a token from the included credentials"
UNAUTHORIZED, CONFLICT = 401, 409
# Codes of a vault that is closed to the machine, not to the identity.
CLOSED = ("ForbiddenByFirewall", "ForbiddenByConnection")
# The status codes of a vault: class, what it means, next step.
REFUSALS: c.Mapping[int, tuple[type[SecretUnreadable], str, str]] = {
    404: (SecretMissing, "it does not exist", "Check the name, the version and the vault"),
    403: (SecretDenied, "access denied", RIGHTS),
    CONFLICT: (SecretChanged, "the vault is busy with it", "Run again"),
    429: (SecretUnreadable, "throttled, after several tries", "Run again with fewer forks"),
}


@contextlib.contextmanager
def explained(where: str) -> c.Iterator[None]:
    """The SDK's errors as ours. Their texts are not passed on but for codes: they are pages long."""
    try:
        yield
    except LatchkeyError:
        raise
    except CredentialUnavailableError:
        raise NotAuthenticated("no credentials for Azure were found", where=where, next_step=CHAIN) from None
    except exceptions.ClientAuthenticationError as error:
        raise _not_let_in(error, where) from error
    except exceptions.HttpResponseError as error:
        raise _refused(error, where) from error
    except (exceptions.ServiceRequestError, exceptions.ServiceResponseError) as error:
        raise _not_reached(error, where) from error
    except (exceptions.AzureError, ValueError) as error:
        said = next(iter(str(error).splitlines()), "")
        raise SecretUnreadable(f"{type(error).__name__}: {said}", where=where) from error


def _not_reached(error: BaseException, where: str) -> SecretUnreadable:
    return SecretUnreadable(
        f"Azure can't be reached ({type(error).__name__})",
        where=where,
        next_step="Check the name of the vault, the network and the proxy",
    )


def _not_let_in(error: exceptions.ClientAuthenticationError, where: str) -> SecretUnreadable:
    # The SDK calls all that goes wrong on the way to a token a failed authentication.
    if isinstance(error.__cause__, (exceptions.ServiceRequestError, exceptions.ServiceResponseError)):
        return _not_reached(error.__cause__, where)
    said = str(error)
    found = AADSTS.search(said)
    if found is not None:
        what = f"{LOGIN_REFUSALS.get(found.group(), 'Entra ID refused the login')} ({found.group()})"
    elif NONE_FITS in said:
        return NotAuthenticated("no credentials for Azure were found", where=where, next_step=CHAIN)
    elif error.status_code == UNAUTHORIZED:
        what = "the vault did not accept the token"
    else:
        what = next((means for words, means in LOGIN_WORDS.items() if words in said), "Entra ID refused the login")
    return NotAuthenticated(what, where=where, next_step=LOGIN)


def _refused(error: exceptions.HttpResponseError, where: str) -> SecretUnreadable:
    status, code = error.status_code or 0, inner_code(error)
    if status == CONFLICT and "Deleted" in code:
        return SecretDeleted("it is deleted, and its name is still taken", where=where, next_step=RECOVER)
    if code == "SecretDisabled":
        return SecretDisabled("it is disabled", where=where, next_step="Enable it, or store a new version")
    if status not in REFUSALS:
        return SecretUnreadable(f"the vault answered {status} ({code})", where=where)
    kind, what, next_step = REFUSALS[status]
    if code in CLOSED:
        next_step = "Allow this machine in the network settings of the vault"
    return kind(f"{what} ({code})", where=where, next_step=next_step)


def inner_code(error: exceptions.HttpResponseError) -> str:
    """The most exact code of an answer."""
    told = error.error
    if told is None:
        return type(error).__name__
    inner = t.cast("dict[str, t.Any]", told.innererror or {})
    return str(inner.get("code") or told.code)


def cloud_of(host: str) -> tuple[str, str]:
    """Of a vault or server: where its identities log in, and the name of PostgreSQL's tokens."""
    return next((facts for domain, facts in SOVEREIGN.items() if host.lower().endswith("." + domain)), PUBLIC)


def open_credential(cloud: Azure, *, authority: str) -> TokenCredential:
    """The options, then both spellings of the environment, then what DefaultAzureCredential tries."""
    environment = os.environ
    tenant = cloud.tenant or environment.get("AZURE_TENANT_ID") or environment.get("AZURE_TENANT")
    client, password = cloud.client_id, cloud.client_secret
    if client in (None, environment.get("AZURE_CLIENT_ID")):
        client = environment.get("AZURE_CLIENT_ID")
        password = password or environment.get("AZURE_CLIENT_SECRET") or environment.get("AZURE_SECRET")
    if cloud.client_secret and not (tenant and client):
        raise InvalidOption("client_secret needs a client_id and a tenant", next_step="Give all three, or none")
    authority = environment.get("AZURE_AUTHORITY_HOST") or authority
    patience = t.cast("t.Any", PATIENCE)
    if tenant and client and password:
        return ClientSecretCredential(tenant, client, password, authority=authority, **patience)
    if tenant and client and (file := environment.get("AZURE_FEDERATED_TOKEN_FILE")):
        # The default one would ask the public cloud for its token, whatever authority it is given.
        return WorkloadIdentityCredential(
            tenant_id=tenant, client_id=client, token_file_path=file, authority=authority, **patience
        )
    return DefaultAzureCredential(authority=authority, managed_identity_client_id=client, **patience)


def require_library() -> None:
    if AZURE_TRACEBACK:
        raise LibraryMissing(f"{missing_required_lib('azure-identity')} {AZURE_TRACEBACK.splitlines()[-1]}")


def vault_host(url: str) -> str:
    return urllib.parse.urlsplit(url).hostname or url
