import pytest

from ikeclient.errors import AuthenticationFailed, IkeclientError, NegotiationRefused, NoResponse
from ikeclient.ike.v2.close_reasons import no_child
from ikeclient.ike.v2.notify_errors import refusal
from ikeclient.wire.registry import NotifyType

ERRORS = [type_ for type_ in NotifyType if type_.is_error]


@pytest.mark.parametrize(
    ("type_", "kind", "exit_code"),
    [  # the exit codes that scripts rely on
        (NotifyType.NO_PROPOSAL_CHOSEN, NegotiationRefused, 6),
        (NotifyType.INVALID_KE_PAYLOAD, NegotiationRefused, 6),
        (NotifyType.AUTHENTICATION_FAILED, AuthenticationFailed, 4),
        (NotifyType.TS_UNACCEPTABLE, NegotiationRefused, 6),
        (NotifyType.INTERNAL_ADDRESS_FAILURE, NegotiationRefused, 6),
        (NotifyType.FAILED_CP_REQUIRED, NegotiationRefused, 6),
        (NotifyType.SINGLE_PAIR_REQUIRED, NegotiationRefused, 6),
        (NotifyType.NO_ADDITIONAL_SAS, NegotiationRefused, 6),
        (NotifyType.INVALID_MAJOR_VERSION, NegotiationRefused, 6),
        (NotifyType.TEMPORARY_FAILURE, NoResponse, 5),
        (NotifyType.INVALID_SYNTAX, NegotiationRefused, 6),
        (NotifyType(9999), NegotiationRefused, 6),
    ],
)
def test_each_refusal_has_its_exit_code(type_: NotifyType, kind: type[IkeclientError], exit_code: int) -> None:
    """K17: only AUTHENTICATION_FAILED is told as one (RFC 7296 section 2.21.2)."""
    error = refusal(type_)
    assert type(error) is kind
    assert error.exit_code == exit_code


@pytest.mark.parametrize("type_", [*ERRORS, NotifyType(9999)], ids=str)
def test_a_refusal_is_at_most_three_plain_lines_and_names_the_notification(type_: NotifyType) -> None:
    lines = refusal(type_).lines()
    assert 2 <= len(lines) <= 3
    assert lines[0].startswith("the gateway ")
    assert lines[1] == f"it answered {type_}"
    assert all(line.isprintable() and len(line) < 120 for line in lines)


def test_refusals_that_a_profile_can_mend_say_how() -> None:
    for type_ in (NotifyType.NO_PROPOSAL_CHOSEN, NotifyType.AUTHENTICATION_FAILED, NotifyType.FAILED_CP_REQUIRED):
        assert refusal(type_).hint is not None
    assert refusal(NotifyType.INVALID_MAJOR_VERSION).hint is None


def test_detail_is_added_to_the_reason() -> None:
    """K4: an AUTHENTICATION_FAILED from somebody who has not proven who he is."""
    error = refusal(NotifyType.AUTHENTICATION_FAILED, detail="the gateway has not proven its identity yet")
    assert error.reason == "it answered AUTHENTICATION_FAILED: the gateway has not proven its identity yet"


def test_a_gateway_that_makes_a_narrower_child_is_not_said_to_have_refused() -> None:
    error = no_child(NotifyType.TS_UNACCEPTABLE, narrowed=True)
    assert error.reason == "a new one would carry less than before"
    assert no_child(NotifyType.NO_PROPOSAL_CHOSEN).reason == "it answered NO_PROPOSAL_CHOSEN several times"
