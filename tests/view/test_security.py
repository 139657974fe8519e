"""Who is let in by the server of `cellfeat view`."""

from __future__ import annotations

import base64

import pytest
from starlette.testclient import TestClient

from cellfeat.errors import CellfeatError
from cellfeat.view.security import MAX_BODY, Access, Guard, is_loopback
from cellfeat.view.serve import check_password, listen

HERE = Access("127.0.0.1", 8765)
OPEN = Access("0.0.0.0", 8765, "a long password")


async def inner(scope, receive, send):
    """An application that answers with the user's name and the length of what it was sent."""
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": f"{scope['cellfeat_user']!r} {len(body)}".encode()})


def client(access: Access, base: str = "http://127.0.0.1:8765", **headers: str) -> TestClient:
    return TestClient(Guard(inner, access), base_url=base, headers=headers)


def asked(access: Access, **headers: str) -> int:
    return client(access, **headers).get("/", params={"token": access.token}).status_code


def test_the_link_lets_in_and_leaves_a_cookie_of_this_port():
    browser = client(HERE)
    assert browser.get("/api/store").status_code == 403
    answer = browser.get(HERE.link)
    assert answer.text == "'' 0"
    assert "HttpOnly; SameSite=Lax" in answer.headers["set-cookie"]
    assert answer.headers["set-cookie"].startswith("cellfeat-8765=")
    assert browser.get("/api/store").status_code == 200  # by the cookie
    assert "set-cookie" not in browser.get("/api/store").headers
    other = Access("127.0.0.1", 8765)
    assert client(other).get(HERE.link).status_code == 403


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8765", 200),
        ("localhost:8765", 200),
        ("[::1]:8765", 200),
        ("127.0.0.1", 421),
        ("127.0.0.1:8766", 421),
        ("evil.example:8765", 421),
        ("127.0.0.1.evil.example:8765", 421),
        ("evil@127.0.0.1:8765", 421),
        ("127.0.0.1:8765/x", 421),
        ("127.0.0.1:port", 421),
        ("", 421),
    ],
)
def test_only_its_own_name_is_answered(host, status):
    assert asked(HERE, host=host) == status


def test_other_pages_are_refused():
    assert asked(HERE, origin="http://127.0.0.1:8765") == 200
    assert asked(HERE, origin="http://evil.example") == 403
    assert asked(HERE, origin="http://127.0.0.1:9999") == 403
    assert asked(HERE, origin="null") == 403
    assert asked(HERE, **{"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}) == 403
    assert asked(HERE, **{"sec-fetch-site": "same-site", "sec-fetch-mode": "cors"}) == 403
    assert asked(HERE, **{"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}) == 200  # a link that is opened


def test_a_change_has_to_say_which_page_it_comes_from():
    browser = client(HERE)
    assert browser.post(HERE.link, content=b"x").status_code == 403
    assert browser.post(HERE.link, content=b"x", headers={"origin": "http://127.0.0.1:8765"}).text == "'' 1"


def test_requests_are_bounded():
    browser, mine = client(HERE), {"origin": "http://127.0.0.1:8765"}
    assert browser.post(HERE.link, content=b"x" * MAX_BODY, headers=mine).status_code == 200
    assert browser.post(HERE.link, content=b"x" * (MAX_BODY + 1), headers=mine).status_code == 413
    parts = (b"x" * (1 << 20) for _ in range(4))  # without a length beforehand
    assert browser.post(HERE.link, content=parts, headers=mine).status_code == 413


def test_every_answer_forbids_inline_script_and_frames():
    for answer in (client(HERE).get("/"), client(HERE).get(HERE.link)):
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe-inline" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"


def basic(name: str, password: str) -> dict[str, str]:
    return {"authorization": "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()}


def test_beyond_this_machine_the_password_counts_and_not_the_token():
    assert "token" not in OPEN.link
    browser = client(OPEN, "http://192.0.2.7:8765")
    refused = browser.get("/", params={"token": OPEN.token})
    assert refused.status_code == 401
    assert refused.headers["www-authenticate"].startswith("Basic")
    assert browser.get("/", headers=basic("ada", "a long password")).text == "'ada' 0"
    assert browser.get("/", headers=basic("ada", "a long passwort")).status_code == 401
    assert browser.get("/", headers={"authorization": "Basic %%%"}).status_code == 401
    assert client(OPEN, "http://evil.example:8765").get("/", headers=basic("a", "a long password")).status_code == 421


def test_nobody_listens_beyond_this_machine_without_a_password():
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        assert is_loopback(host)
        check_password(host, "")
    for host in ("0.0.0.0", "::", "192.0.2.7", "smears.example", ""):
        with pytest.raises(CellfeatError, match="everyone who reaches"):
            check_password(host, "short")
    check_password("0.0.0.0", "a long password")


def test_a_port_that_is_taken_is_one_line():
    with listen("127.0.0.1", 0) as bound, pytest.raises(CellfeatError, match="choose another --port"):
        listen("127.0.0.1", bound.getsockname()[1])
    with pytest.raises(CellfeatError, match="address of this machine"):
        listen("no.such.invalid", 0)
