# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change or go at any time.

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  region:
    description:
      - The region. If it is not set, E(AWS_REGION) and E(AWS_DEFAULT_REGION) are used, else that of the profile.
    type: str
    env:
      - name: LATCHKEY_AWS_REGION
      - name: AWS_REGION
      - name: AWS_DEFAULT_REGION
    ini:
      - section: latchkey
        key: aws_region
    vars:
      - name: latchkey_aws_region
  profile:
    description:
      - A profile of the shared files of AWS.
    type: str
    env:
      - name: LATCHKEY_AWS_PROFILE
    ini:
      - section: latchkey
        key: aws_profile
    vars:
      - name: latchkey_aws_profile
  access_key:
    description:
      - The id of an access key.
    type: str
    aliases: [aws_access_key_id]
    env:
      - name: LATCHKEY_AWS_ACCESS_KEY
    ini:
      - section: latchkey
        key: aws_access_key
    vars:
      - name: latchkey_aws_access_key
  secret_key:
    description:
      - The secret of the access key.
    type: str
    aliases: [aws_secret_access_key]
    env:
      - name: LATCHKEY_AWS_SECRET_KEY
    ini:
      - section: latchkey
        key: aws_secret_key
    vars:
      - name: latchkey_aws_secret_key
  session_token:
    description:
      - The session that a temporary access key belongs to.
    type: str
    aliases: [aws_session_token]
    env:
      - name: LATCHKEY_AWS_SESSION_TOKEN
    ini:
      - section: latchkey
        key: aws_session_token
    vars:
      - name: latchkey_aws_session_token
  assume_role_arn:
    description:
      - A role to act as, from the identity that the other options give.
    type: str
    env:
      - name: LATCHKEY_AWS_ASSUME_ROLE_ARN
    ini:
      - section: latchkey
        key: aws_assume_role_arn
    vars:
      - name: latchkey_aws_assume_role_arn
  endpoint_url:
    description:
      - The address of Secrets Manager, such as that of a VPC endpoint. Of no use for a token.
    type: str
    env:
      - name: LATCHKEY_AWS_ENDPOINT_URL
    ini:
      - section: latchkey
        key: aws_endpoint_url
    vars:
      - name: latchkey_aws_endpoint_url
requirements:
  - boto3
notes:
  - What is not given, boto3 finds in its standard chain, such as E(AWS_ACCESS_KEY_ID), E(AWS_PROFILE), the shared
    files, a web identity, and the role of the container or instance.
"""
