# Copyright (c) 2026, Latchkey contributors
# Simplified BSD License (see LICENSES/BSD-2-Clause.txt or https://opensource.org/licenses/BSD-2-Clause)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change or go at any time.

"""Amazon's SDK: the session with it, and what its errors mean."""

from __future__ import annotations

import collections.abc as c
import contextlib
import os
import re
import traceback
import typing as t

from ansible.module_utils.basic import missing_required_lib

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    InvalidOption,
    LatchkeyError,
    LibraryMissing,
    NotAuthenticated,
    SecretChanged,
    SecretDeleted,
    SecretDenied,
    SecretMissing,
    SecretUnreadable,
)

if t.TYPE_CHECKING:
    import boto3
    from botocore import exceptions
    from botocore.config import Config

    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Aws

BOTO3_TRACEBACK: str | None = None

if not t.TYPE_CHECKING:
    try:
        import boto3
        from botocore import exceptions
        from botocore.config import Config
    except ImportError:
        boto3 = None
        BOTO3_TRACEBACK = traceback.format_exc()

# Three attempts with the SDK's own back-off of at most 3 seconds, each at up to three addresses, as a VPC endpoint has:
# a store that does not answer is given up within 15 seconds, also by a busy machine.
PATIENCE = {"connect_timeout": 1.1, "read_timeout": 2.6, "retries": {"mode": "standard", "total_max_attempts": 3}}

CHAIN = (
    "Give access_key and secret_key, or profile; else the SDK looks at its environment variables, the shared files,"
    " a web identity, and the role of the container or instance"
)
RIGHTS = "Allow this identity the action on this secret (and on its KMS key)"
SESSION = "Renew the credentials"
ACCOUNT = "Check login_host, and the account of this identity"
# The codes of the service: class, what it means, next step.
REFUSALS: c.Mapping[str, tuple[type[SecretUnreadable], str, str]] = {
    "ResourceNotFoundException": (SecretMissing, "it does not exist", "Check the name, the region and the account"),
    "ResourceExistsException": (SecretChanged, "it exists already, with another value", "Run again"),
    "AccessDeniedException": (SecretDenied, "access denied", RIGHTS),
    "AccessDenied": (SecretDenied, "access denied", RIGHTS),
    "DecryptionFailure": (SecretDenied, "its KMS key can't be used", "Allow kms:Decrypt, and see that the key is on"),
    "EncryptionFailure": (SecretDenied, "its KMS key can't be used", "Allow the key's use, and see that it is on"),
    "UnrecognizedClientException": (NotAuthenticated, "the access key is not known", "Check access_key or profile"),
    "InvalidClientTokenId": (NotAuthenticated, "the access key is not known", "Check access_key or profile"),
    "InvalidSignatureException": (NotAuthenticated, "the secret key is wrong", "Check secret_key or profile"),
    "SignatureDoesNotMatch": (NotAuthenticated, "the secret key is wrong", "Check secret_key or profile"),
    "ExpiredToken": (NotAuthenticated, "the session has expired", SESSION),
    "ExpiredTokenException": (NotAuthenticated, "the session has expired", SESSION),
    "DBInstanceNotFound": (SecretMissing, "it does not exist", ACCOUNT),
    "DBClusterNotFoundFault": (SecretMissing, "it does not exist", ACCOUNT),
    "Throttling": (SecretUnreadable, "throttled, after several tries", "Run again with fewer forks"),
    "ThrottlingException": (SecretUnreadable, "throttled, after several tries", "Run again with fewer forks"),
    "TooManyRequestsException": (SecretUnreadable, "throttled, after several tries", "Run again with fewer forks"),
}
FOR_DELETION = re.compile("for deletion|marked deleted")  # marked, or already scheduled
# Of what the service says, as much as a line may hold: something in between may answer with a whole page.
LONGEST = 200
RESTORE = "Restore it (aws secretsmanager restore-secret)"


@contextlib.contextmanager
def explained(where: str) -> c.Iterator[None]:
    """The SDK's errors as ours. The service's own words are given where they name who may not do what."""
    try:
        yield
    except LatchkeyError:
        raise
    except exceptions.ClientError as error:
        raise _refused(error, where) from error
    except exceptions.NoCredentialsError:
        raise NotAuthenticated("no credentials for AWS were found", where=where, next_step=CHAIN) from None
    except exceptions.NoRegionError:
        raise SecretUnreadable(
            "no AWS region is known", where=where, next_step="Set region, or AWS_REGION in the environment"
        ) from None
    except exceptions.InvalidRegionError as error:
        raise SecretUnreadable(str(error), where=where, next_step="Check region") from error
    except (exceptions.ProfileNotFound, exceptions.PartialCredentialsError) as error:
        raise NotAuthenticated(
            str(error), where=where, next_step="Check profile and the shared files of AWS"
        ) from error
    except (exceptions.SSOError, exceptions.TokenRetrievalError, exceptions.CredentialRetrievalError) as error:
        raise NotAuthenticated(str(error), where=where, next_step=SESSION) from error
    except (exceptions.HTTPClientError, exceptions.ConnectionError) as error:
        raise SecretUnreadable(
            f"AWS can't be reached ({type(error).__name__})",
            where=where,
            next_step="Check the region, the network, the proxy, and endpoint_url if it is set",
        ) from error
    except (exceptions.BotoCoreError, ValueError) as error:
        raise SecretUnreadable(f"{type(error).__name__}: {error}", where=where) from error


def _refused(error: exceptions.ClientError, where: str) -> SecretUnreadable:
    code, said = error.response["Error"].get("Code", ""), error.response["Error"].get("Message", "")
    if FOR_DELETION.search(said):
        return SecretDeleted("it is scheduled for deletion", where=where, next_step=RESTORE)
    if code == "ResourceNotFoundException" and "secret value" in said:
        return SecretMissing("it has no such version", where=where, next_step="Check version_stage and version_id")
    if code == "InvalidParameterException" and "RemoveFromVersionId" in said:
        return SecretChanged("somebody else has changed it", where=where, next_step="Run again")
    if "Signature expired" in said:
        return NotAuthenticated(f"the clocks differ ({said})", where=where, next_step="Set the clock of this machine")
    if code not in REFUSALS:
        return SecretUnreadable(f"{code}: {' '.join(said.split())[:LONGEST]}", where=where)
    kind, what, next_step = REFUSALS[code]
    detail = f"{code}: {said}" if kind in (SecretDenied, NotAuthenticated) else code
    return kind(f"{what} ({detail})", where=where, next_step=next_step)


def open_session(cloud: Aws) -> boto3.Session:
    """A session as the identity that is asked for; nothing is sent unless a role is to be assumed."""
    if BOTO3_TRACEBACK:
        raise LibraryMissing(f"{missing_required_lib('boto3')} {BOTO3_TRACEBACK.splitlines()[-1]}")
    if bool(cloud.access_key) != bool(cloud.secret_key) or (cloud.session_token and not cloud.access_key):
        raise InvalidOption("access_key, secret_key and session_token go together", next_step="Give the missing one")
    with explained("AWS"):
        session = boto3.Session(
            # The variable that all SDKs of AWS know, but this one.
            region_name=cloud.region or os.environ.get("AWS_REGION"),
            profile_name=cloud.profile,
            aws_access_key_id=cloud.access_key,
            aws_secret_access_key=cloud.secret_key,
            aws_session_token=cloud.session_token,
        )
    return _assume(session, cloud) if cloud.assume_role_arn else session


def _assume(session: boto3.Session, cloud: Aws) -> boto3.Session:
    with explained(f"role {cloud.assume_role_arn}"):
        sts = open_client(session, "sts")
        given = sts.assume_role(RoleArn=cloud.assume_role_arn, RoleSessionName="latchkey")["Credentials"]
        return boto3.Session(
            region_name=session.region_name,
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
        )


def open_client(session: boto3.Session, service: str, **more: str | None) -> t.Any:
    return session.client(service, config=Config(**t.cast("t.Any", PATIENCE)), **more)
