# Copyright (c) 2026, Latchkey contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# Private to this collection: it may change or go at any time.

"""What the lookups share: options, errors, and secrets as credentials."""

from __future__ import annotations

import collections.abc as c
import typing as t
from dataclasses import fields

from ansible.errors import AnsibleError
from ansible.plugins.lookup import LookupBase
from ansible.utils.display import Display

from ansible_collections.latchkey.postgres.plugins.module_utils._errors import (
    LatchkeyError,
    SecretDenied,
    SecretMissing,
    SecretUnreadable,
)
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets import access, document
from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Reference, locate

if t.TYPE_CHECKING:
    from ansible_collections.latchkey.postgres.plugins.module_utils._secrets.values import Cloud

display = Display()


class CloudLookup(LookupBase):
    """A lookup that asks a cloud; its documentation names all of its options."""

    cloud: t.ClassVar[type[Cloud]]

    def run(self, terms: list[t.Any], variables: dict[str, t.Any] | None = None, **kwargs: t.Any) -> list[t.Any]:
        self.set_options(var_options=variables, direct=kwargs)
        try:
            return self.answer([str(term) for term in self._flatten(terms)])
        except LatchkeyError as error:
            # Ansible would show the cause's words too, and they are the same.
            raise AnsibleError(str(error)) from None

    def answer(self, terms: list[str]) -> list[t.Any]:
        raise NotImplementedError

    def identity(self) -> t.Any:
        """As whom to ask; an empty option counts as not given."""
        return self.cloud(**{one.name: self.get_option(one.name) or None for one in fields(self.cloud)})


class SecretLookup(CloudLookup):
    """A lookup whose terms are secrets and whose answers are credentials."""

    def answer(self, terms: list[str]) -> list[t.Any]:
        cloud = self.identity()
        stage, version = self.get_option("version_stage"), self.get_option("version_id") or None
        wanted = [locate(cloud, term, stage=stage, version=version) for term in terms]
        answers = access.read_all(wanted, afresh=not self.get_option("cache"))
        return list(self._given(zip(wanted, answers, strict=True)))

    def _given(self, answers: c.Iterable[tuple[Reference, access.Answer]]) -> c.Iterator[dict[str, t.Any]]:
        for reference, answer in answers:
            if isinstance(answer, SecretUnreadable):
                self._complain(answer)
            else:
                username = self.get_option("username") or None
                yield document.parse(answer.text, where=reference.where, username=username).as_dict()

    def _complain(self, error: SecretUnreadable) -> None:
        """Skip what may be missing or closed, if the user has said so."""
        choice = "error"
        if isinstance(error, SecretMissing):
            choice = self.get_option("on_missing")
        elif isinstance(error, SecretDenied):
            choice = self.get_option("on_denied")
        if choice == "error":
            raise error
        if choice == "warn":
            display.warning(f"lookup {self.ansible_name}: {error}")
