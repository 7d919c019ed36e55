import pytest
from hypothesis import given
from hypothesis import strategies as st

from ikeclient.ike.v2.message.window import FIRST_WAIT, LAST_MESSAGE_ID, LONGEST_WAIT, RequestWindow, ResponseWindow

REQUEST = (b"part one", b"part two")


def test_a_request_is_sent_again_after_growing_pauses_until_patience_ends() -> None:
    """RFC 7296 section 2.4: retransmission timers must grow; the whole schedule for 15 seconds."""
    window = RequestWindow()
    window.open(REQUEST, 100.0, 15.0)
    times = []
    while not window.failed(window.deadline or 0.0):
        assert window.deadline is not None
        now = window.deadline
        assert window.due(now - 0.001) == ()
        assert window.due(now) == REQUEST
        assert window.due(now) == ()
        times.append(now - 100.0)
    assert times == pytest.approx([0.5, 1.4, 3.02, 5.936, 9.936, 13.936])
    assert window.deadline == 115.0


def test_pauses_grow_from_half_a_second_to_four() -> None:
    assert (FIRST_WAIT, LONGEST_WAIT) == (0.5, 4.0)


def test_a_late_caller_sends_once_and_goes_on_from_there() -> None:
    window = RequestWindow()
    window.open(REQUEST, 0.0, 60.0)
    assert window.due(30.0) == REQUEST  # the machine was busy, or asleep
    assert window.due(30.0) == ()
    assert window.deadline == pytest.approx(30.9)


def test_an_answer_ends_the_wait() -> None:
    window = RequestWindow()
    assert window.deadline is None
    window.open(REQUEST, 0.0, 15.0)
    window.close()
    assert window.deadline is None
    assert window.due(100.0) == ()
    assert not window.failed(100.0)


def test_the_window_tells_since_when_it_waits() -> None:
    window = RequestWindow()
    assert window.waiting_since is None
    window.open(REQUEST, 10.0, 15.0)
    window.due(12.0)
    assert window.waiting_since == 10.0
    window.close()
    assert window.waiting_since is None


@given(st.integers(0, LAST_MESSAGE_ID), st.integers(0, LAST_MESSAGE_ID))
def test_only_the_pending_request_is_answered(first: int, other: int) -> None:
    """K5: wrong message ID, replay of an old one."""
    window = RequestWindow(first)
    assert not window.accepts(first)
    window.open(REQUEST, 0.0, 15.0)
    assert window.accepts(first)
    assert window.accepts(other) == (other == first)
    window.close()
    assert not window.accepts(first)
    assert window.next_id == first + 1


def test_patience_ends_at_its_time() -> None:
    window = RequestWindow()
    window.open(REQUEST, 10.0, 1.5)
    assert not window.failed(11.49)
    assert window.failed(11.5)


@pytest.mark.parametrize(
    ("next_id", "exhausted"), [(0, False), (2**31, False), (2**32 - 18, False), (2**32 - 17, True), (2**32 - 1, True)]
)
def test_the_window_says_in_time_that_message_ids_run_out(next_id: int, exhausted: bool) -> None:
    """S17: before 2^32, with room left for the rekey and the DELETE."""
    assert RequestWindow(next_id).exhausted == exhausted


def test_requests_of_the_peer_are_taken_in_order() -> None:
    """S2: ahead of the window, 2^32-1."""
    window = ResponseWindow()
    assert window.fresh(0)
    for ahead in (1, 2, 100, LAST_MESSAGE_ID):
        assert not window.fresh(ahead)
        assert window.repeated(ahead) == ()
    window.answered([b"zero"])
    assert window.fresh(1)
    assert not window.fresh(0)


def test_a_repeated_request_gets_the_same_answer_and_an_older_one_none() -> None:
    """S1."""
    window = ResponseWindow(7)
    assert window.repeated(6) == ()  # nothing was answered yet
    window.answered([b"seven", b"and a half"])
    assert window.repeated(7) == (b"seven", b"and a half")
    window.answered([b"eight"])
    assert window.repeated(8) == (b"eight",)
    assert window.repeated(7) == ()
    assert window.repeated(9) == ()


def test_after_the_last_message_id_nothing_is_taken() -> None:
    """S17: never wrap."""
    window = ResponseWindow(LAST_MESSAGE_ID)
    assert window.fresh(LAST_MESSAGE_ID)
    window.answered([b"last"])
    assert not window.fresh(0)
    assert not window.fresh(LAST_MESSAGE_ID)
    assert window.repeated(LAST_MESSAGE_ID) == (b"last",)
