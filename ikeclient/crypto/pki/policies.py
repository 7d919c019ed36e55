"""Certificate policies along a path: mappings, constraints and anyPolicy (RFC 5280 sections 6.1.2 to 6.1.5).

The RFC describes a tree with a node for each way to a policy, which an authority can make as large as it likes
(CVE-2023-0464). Here each certificate has one node a policy, which knows its parents: all that the verdict needs.

A level is keyed by the policies that a certificate's own policies are compared with, after the mappings of its issuer.
Unless the caller says otherwise every policy is acceptable, so a path is refused only if a certificate in it demands an
explicit policy (requireExplicitPolicy) and none is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from cryptography import x509

from ikeclient.crypto.pki.budget import COMPARISON, Budget
from ikeclient.crypto.pki.certificate import Certificate
from ikeclient.lazy_dataclass import dataclass

ANY = "2.5.29.32.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyInput:
    """What a path is validated with (RFC 5280 section 6.1.1, c to g); the defaults ask for nothing."""

    acceptable: frozenset[str] = frozenset({ANY})
    require_explicit: bool = False
    inhibit_mapping: bool = False
    inhibit_any: bool = False


NO_DEMANDS = PolicyInput()


@dataclass(slots=True)
class _Level:
    """The policies valid at one certificate, each with its parents in the level above."""

    nodes: dict[str, set[str]] = field(default_factory=dict)
    any_policy: bool = False


def policy_problem(path: Sequence[Certificate], wanted: PolicyInput, budget: Budget) -> str | None:
    """Why the policies of `path`, its leaf first and its anchor last, are not acceptable; None if they are.

    Raises GatewayNotAuthenticated if the budget does not allow to find out.
    """
    below_anchor = path[-2::-1] if len(path) > 1 else ()
    skips = len(below_anchor) + 1
    explicit = 0 if wanted.require_explicit else skips
    mapping = 0 if wanted.inhibit_mapping else skips
    inhibit_any = 0 if wanted.inhibit_any else skips
    levels: list[_Level] = []
    level = _Level(any_policy=True)
    for position, certificate in enumerate(below_anchor, start=1):
        is_leaf = position == len(below_anchor)
        budget.spend(COMPARISON * (1 + len(certificate.policy_mappings) + len(level.nodes)))
        _intersect(level, certificate, inhibit_any > 0 or (certificate.self_issued and not is_leaf), budget)
        levels.append(level)
        if not is_leaf:
            if any(ANY in pair for pair in certificate.policy_mappings):
                return "an authority in its chain maps anyPolicy, which is forbidden"
            level = _mapped(level, certificate.policy_mappings, allowed=mapping > 0)
            if not certificate.self_issued:
                explicit, mapping, inhibit_any = (max(0, each - 1) for each in (explicit, mapping, inhibit_any))
        else:
            explicit = max(0, explicit - 1)
        constraints = certificate.extension(x509.PolicyConstraints)
        inhibit = certificate.extension(x509.InhibitAnyPolicy)
        if constraints is not None and (required := constraints.require_explicit_policy) is not None:
            # In the leaf only 0 counts (section 6.1.5 b).
            explicit = min(explicit, required) if not is_leaf or required == 0 else explicit
        if constraints is not None and constraints.inhibit_policy_mapping is not None:
            mapping = min(mapping, constraints.inhibit_policy_mapping)
        if inhibit is not None:
            inhibit_any = min(inhibit_any, inhibit.skip_certs)
    if explicit > 0 or _acceptable(levels, wanted.acceptable):
        return None
    return "its chain demands a certificate policy, and there is none that holds for all of it"


def _intersect(level: _Level, certificate: Certificate, any_counts: bool, budget: Budget) -> None:
    """Keep the policies that the certificate has as well (section 6.1.3 d and e)."""
    extension = certificate.extension(x509.CertificatePolicies)
    own = {each.policy_identifier.dotted_string for each in extension or ()}
    budget.spend(COMPARISON * len(own))
    any_policy = ANY in own and any_counts
    own.discard(ANY)
    if not any_policy:
        level.nodes = {policy: parents for policy, parents in level.nodes.items() if policy in own}
    if level.any_policy:
        for policy in own - level.nodes.keys():
            level.nodes[policy] = {ANY}
    level.any_policy = level.any_policy and any_policy


def _mapped(level: _Level, mappings: Sequence[tuple[str, str]], *, allowed: bool) -> _Level:
    """The level that the next certificate is compared with (section 6.1.4 b)."""
    issuers = {issuer for issuer, _ in mappings}
    if not allowed:
        for issuer in issuers:
            level.nodes.pop(issuer, None)
        mappings, issuers = (), set()
    elif level.any_policy:
        for issuer in issuers - level.nodes.keys():
            level.nodes[issuer] = {ANY}
    following = _Level(any_policy=level.any_policy)
    for policy in level.nodes.keys() - issuers:
        following.nodes[policy] = {policy}
    for issuer, subject in mappings:
        if issuer in level.nodes:
            following.nodes.setdefault(subject, set()).add(issuer)
    return following


def _acceptable(levels: Sequence[_Level], acceptable: frozenset[str]) -> bool:
    """Whether one of these policies, in the words of the anchor, holds at the leaf (section 6.1.5 g)."""
    if not levels or levels[-1].any_policy:
        return True  # the tree has a branch of anyPolicy, or the anchor itself is the certificate
    if ANY in acceptable:
        return bool(levels[-1].nodes)
    reachable = set(levels[-1].nodes)
    for level in reversed(levels):
        above: set[str] = set()
        for policy in reachable:
            parents = level.nodes.get(policy, set())
            if ANY in parents and policy in acceptable:
                return True
            above |= parents - {ANY}
        reachable = above
    return False
