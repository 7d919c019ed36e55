from ikeclient.eap.method import NeedCredential
from ikeclient.eap.methods.gtc import Gtc


def test_the_password_answers_the_question() -> None:
    method = Gtc("pässword")
    assert not method.done
    assert method.respond(b"Enter your passcode:", 1) == "pässword".encode()
    assert method.done
    assert method.msk is None


def test_the_question_is_put_to_a_person_escaped() -> None:
    """K15, E5."""
    method = Gtc(None)
    need = method.respond(b"\x1b[2JToken \xff" + b"?" * 1000, 1)
    assert isinstance(need, NeedCredential)
    assert need.kind == "password"
    assert need.prompt.startswith(r"the gateway says: \x1b[2JToken \xff???")
    assert len(need.prompt) <= 256
    assert not method.done
    method.supply("123456")
    assert method.respond(b"Token", 1) == b"123456"
    assert method.done


def test_an_empty_question_still_has_a_prompt() -> None:
    assert Gtc(None).respond(b"", 1) == NeedCredential(kind="password", prompt="Password")


def test_one_password_answers_one_question() -> None:
    """E9: a configured password is not offered again and again."""
    method = Gtc("secret")
    assert method.respond(b"Password", 1) == b"secret"
    assert method.respond(b"Next token", 2) == NeedCredential(kind="password", prompt="the gateway says: Next token")
