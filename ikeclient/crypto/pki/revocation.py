"""Whether the certificates of a path have been revoked.

Asked when a path is known to be valid, about every certificate of it but the anchor. What is known comes as bytes from
wherever it was found: with the gateway's certificates (RFC 4806), from a cache, or fetched. Nothing here fetches, and
nothing is believed that is not signed by who may say so (`ocsp`, `crl`). What follows from the states is decided in
`revocation_status`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from itertools import pairwise

from ikeclient.crypto.pki.budget import Budget
from ikeclient.crypto.pki.certificate import Certificate
from ikeclient.crypto.pki.crl import NOT_LISTED, Crl, Entry, delta_urls, points
from ikeclient.crypto.pki.crl import judge as judge_lists
from ikeclient.crypto.pki.ocsp import OcspResponse
from ikeclient.crypto.pki.ocsp import urls as ocsp_urls
from ikeclient.crypto.pki.path import Purpose, find_path
from ikeclient.crypto.pki.revocation_status import Evidence, RevocationQuery, RevocationState, RevocationStatus
from ikeclient.errors import GatewayNotAuthenticated, ParseError, SignatureError

MAX_RESPONSES = 16
MAX_LISTS = 16
_MAX_SIGNER_DEPTH = 2  # a list may be signed by another key, whose certificate another list speaks about


def read_evidence(responses: Sequence[bytes] = (), lists: Sequence[bytes] = ()) -> Evidence:
    """Parse what can be parsed, up to a number."""
    parsed: list[OcspResponse] = []
    found: list[Crl] = []
    problems = []
    for encoded in responses[:MAX_RESPONSES]:
        try:
            parsed.append(OcspResponse(encoded))
        except ParseError as error:
            problems.append(error.message)
    for encoded in lists[:MAX_LISTS]:
        try:
            found.append(Crl(encoded))
        except ParseError as error:
            problems.append(error.message)
    return Evidence(responses=tuple(parsed), lists=tuple(found), problems=tuple(problems))


def query(
    path: Sequence[Certificate], others: Sequence[Certificate], evidence: Evidence, now: datetime
) -> RevocationQuery:
    """What `evidence` says about a path, as a query for the rest."""
    check = RevocationCheck(path, others, now)
    statuses = tuple(check.status(position, evidence) for position in range(len(path) - 1))
    return RevocationQuery(path=tuple(path), others=tuple(others), evidence=evidence, statuses=statuses)


def own_query(
    chain: Sequence[Certificate], authorities: Sequence[Certificate], now: datetime
) -> RevocationQuery | None:
    """A query for an OCSP response about our own certificate, the first of `chain`.

    None if it names no responder, or if the certificate of its issuer is not known.
    """
    own, *others = chain
    if not ocsp_urls(own):
        return None
    issuer = next((each for each in (*others, *authorities) if own.issued_by(each)), None)
    if issuer is None:
        return None
    return replace(query((own, issuer), others, Evidence(), now), response_only=True)


class RevocationCheck:
    """Judges the certificates of one valid path at one moment."""

    def __init__(self, path: Sequence[Certificate], others: Sequence[Certificate], now: datetime) -> None:
        self._path = tuple(path)
        self._others = tuple(dict.fromkeys((*path, *others)))
        self._now = now
        self._budget = Budget()
        self._signed: dict[tuple[int, Certificate], str | None] = {}

    def status(self, position: int, evidence: Evidence, nonce: bytes | None = None) -> RevocationStatus:
        """The state of the certificate at `position` of the path; `nonce` is what was sent to responders."""
        certificate, issuer = self._path[position], self._path[position + 1]
        return self._status(certificate, issuer, evidence, nonce, depth=0)

    def _status(
        self, certificate: Certificate, issuer: Certificate, evidence: Evidence, nonce: bytes | None, *, depth: int
    ) -> RevocationStatus:
        asked = bool(ocsp_urls(certificate) or list_urls(certificate))
        if asked:
            why = "its OCSP responder and its revocation list were not asked"
        else:
            why = "it names no OCSP responder and no revocation list that can be asked"

        def is_revoked(signer: Certificate) -> bool:
            lists = Evidence(lists=evidence.lists)
            return self._status(signer, issuer, lists, None, depth=depth + 1).state is RevocationState.REVOKED

        for response in evidence.responses:
            said = response.judge(certificate, issuer, self._now, nonce=nonce, revoked=is_revoked)
            if said.revoked is not None:
                return _revoked(certificate, said.revoked, "OCSP")
            if said.until is not None:
                return _good(certificate, "OCSP", said.until)
            why = said.problem
        if evidence.lists and depth <= _MAX_SIGNER_DEPTH:
            listed = judge_lists(
                certificate, evidence.lists, self._now, lambda each: self._unsigned(each, issuer, evidence, depth)
            )
            if listed.revoked is not None:
                return _revoked(certificate, listed.revoked, "CRL")
            if listed.until is not None:
                return _good(certificate, "CRL", listed.until)
            if listed.problem != NOT_LISTED or not evidence.responses:
                why = listed.problem or why
        why = next(iter(evidence.problems), why)
        return RevocationStatus(subject=certificate.subject, state=RevocationState.UNKNOWN, detail=why, asked=asked)

    def _unsigned(self, revocations: Crl, issuer: Certificate, evidence: Evidence, depth: int) -> str | None:
        """Why a list is not signed by the issuer, or by another key of it; None if it is."""
        found = (id(revocations), issuer)
        if found not in self._signed:
            self._signed[found] = "the signer of the revocation list is revoked"  # unless the search below ends
            self._signed[found] = self._find_signer(revocations, issuer, evidence, depth)
        return self._signed[found]

    def _find_signer(self, revocations: Crl, issuer: Certificate, evidence: Evidence, depth: int) -> str | None:
        named = [each for each in self._others if each.subject_key == revocations.issuer_key and each != issuer]
        why = "no certificate of the signer of the revocation list is known"
        for signer in (issuer, *named):
            if signer.subject_key != revocations.issuer_key:
                continue
            try:
                self._budget.spend(signer.public_key.cost)
                revocations.verify(signer.public_key)
                if signer == self._path[-1]:
                    if not signer.may_sign_lists:
                        why = "the issuer may not sign revocation lists (keyUsage)"
                        continue
                    return None
                path = find_path(signer, self._others, self._path[-1:], self._now, Purpose.CRL, budget=self._budget)
            except ParseError as error:
                return error.message
            except SignatureError as error:
                why = f"the revocation list is not signed by its issuer: {error.message}"
                continue
            except GatewayNotAuthenticated as error:
                why = f"the signer of the revocation list cannot be trusted: {error.reason or error.message}"
                continue
            if signer not in self._path and self._signer_is_revoked(path, evidence, depth):
                why = "the signer of the revocation list is revoked"
                continue
            return None
        return why

    def _signer_is_revoked(self, path: Sequence[Certificate], evidence: Evidence, depth: int) -> bool:
        lists = Evidence(lists=evidence.lists)
        return any(
            self._status(one, above, lists, None, depth=depth + 1).state is RevocationState.REVOKED
            for one, above in pairwise(path)
        )


def list_urls(certificate: Certificate) -> tuple[str, ...]:
    """Where the certificate says that its lists are, complete ones first; plain HTTP only."""
    complete = dict.fromkeys(url for point in points(certificate) for url in point.urls)
    return (*complete, *delta_urls(certificate))


def _revoked(certificate: Certificate, entry: Entry, source: str) -> RevocationStatus:
    return RevocationStatus(
        subject=certificate.subject,
        state=RevocationState.REVOKED,
        detail=f"{source}: {entry.reason}, {entry.date}",
        asked=True,
    )


def _good(certificate: Certificate, source: str, until: datetime) -> RevocationStatus:
    return RevocationStatus(
        subject=certificate.subject, state=RevocationState.GOOD, detail=source, asked=True, until=until
    )
