"""Who may ask the server of `cellfeat view`, and what a page of it may do.

The server answers requests that

- name a host that it listens on (another name that leads to this machine is an attack by DNS rebinding);
- come from its own page, where the browser says where they come from;
- carry the token of the link that was printed or, beyond this machine, the password;
- are small.

Every answer forbids the browser to load anything from elsewhere, to run inline script and to show the page in a frame.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
import secrets
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

MAX_BODY = 1 << 21  # bytes of a request: the numbers of 100,000 cells have less than one MB
UPLOAD = "/api/upload"  # the one path that takes more, where pictures can be sent at all
MIN_PASSWORD = 12  # characters: tries are not counted
# regl compiles its drawing commands with `Function`: its page needs 'unsafe-eval'. No text of a store gets there.
POLICY = (
    "default-src 'none'; script-src 'self' 'unsafe-eval'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """Who is let in.

    Attributes:
        host: The address that is listened on.
        port: Its port.
        password: "" on this machine, where the token is asked for.
        token: The secret of the link.
    """

    host: str
    port: int
    password: str = ""
    token: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def cookie(self) -> str:
        """Cookies of a host are shared by its ports, so the name has the port."""
        return f"cellfeat-{self.port}"

    @property
    def link(self) -> str:
        """What the user opens."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{name}:{self.port}/" + ("" if self.password else f"?token={self.token}")

    def names_us(self, host: str) -> bool:
        """Whether a `Host` header names this server: its address, never a name that a stranger's DNS could have."""
        try:
            split = urlsplit(f"//{host}")
            name, port = (split.hostname or "").rstrip("."), split.port or 80
        except ValueError:
            return False
        if port != self.port or split.username is not None or split.path:
            return False
        if is_loopback(self.host):
            return is_loopback(name)
        if name in (self.host.lower(), "localhost", socket.gethostname().lower(), socket.getfqdn().lower()):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def user(self, headers: dict[str, str], query: str) -> str | None:
        """The name that the request gives, "" where it gives none; None where it may not come in."""
        if self.password:
            return self._password_user(headers.get("authorization", ""))
        given = parse_qs(query).get("token", [""])[0] or _cookie(headers.get("cookie", ""), self.cookie)
        return "" if _equal(given, self.token) else None

    def _password_user(self, authorization: str) -> str | None:
        scheme, _, coded = authorization.partition(" ")
        try:
            name, _, password = base64.b64decode(coded, validate=True).decode().partition(":")
        except (binascii.Error, ValueError):
            return None
        return name[:100] if scheme.lower() == "basic" and _equal(password, self.password) else None


class Guard:
    """ASGI: lets requests through that `Access` admits, and puts the headers on every answer.

    The inner application finds the user's name in `scope["cellfeat_user"]`.

    Args:
        app: The application within.
        access: Who is let in.
        max_upload: Bytes that `UPLOAD` takes.
    """

    def __init__(self, app: App, access: Access, max_upload: int = MAX_BODY) -> None:
        self._app, self._access, self._max_upload = app, access, max_upload

    async def __call__(self, scope: Message, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            return await self._app(scope, receive, send)
        if scope["type"] != "http":  # nothing here speaks over a websocket
            return await send({"type": "websocket.close", "code": 1008})
        names = [name for name, _ in scope["headers"]]
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        query = scope["query_string"].decode("latin-1")
        user = self._access.user(headers, query)
        cookie = [] if self._access.password else [self._set_cookie()]

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                plain = [pair for pair in message.get("headers", []) if pair[0] != b"server"]
                further = cookie if user is not None and "token=" in query else []
                message = {**message, "headers": [*plain, *HEADERS, *further]}
            await send(message)

        host = headers.get("host", "")
        if names.count(b"host") != 1 or not self._access.names_us(host):
            return await _refuse(answer, 421, "This server does not answer to that name.")
        if _foreign(scope["method"], headers, host):
            return await _refuse(answer, 403, "This request comes from another page.")
        if user is None:
            if self._access.password:
                challenge = (b"www-authenticate", b'Basic realm="cellfeat", charset="UTF-8"')
                return await _refuse(answer, 401, "A password is needed.", challenge)
            return await _refuse(answer, 403, "Open the link that `cellfeat view` printed: it carries the token.")
        most = self._max_upload if scope["path"] == UPLOAD else MAX_BODY
        body = await _body(receive, most)
        if body is None:
            return await _refuse(answer, 413, f"A request has at most {most} bytes.")
        scope = {**scope, "cellfeat_user": user}
        await self._app(scope, _once(body, receive), answer)

    def _set_cookie(self) -> tuple[bytes, bytes]:
        value = f"{self._access.cookie}={self._access.token}; Path=/; HttpOnly; SameSite=Lax"
        return b"set-cookie", value.encode()


def _foreign(method: str, headers: dict[str, str], host: str) -> bool:
    """Whether a browser says that another page sent this; requests that change something must say where from."""
    origin = headers.get("origin")
    if origin is not None:
        return origin != f"http://{host}"
    if method not in ("GET", "HEAD"):
        return True
    return headers.get("sec-fetch-site") in ("cross-site", "same-site") and headers.get("sec-fetch-mode") != "navigate"


async def _body(receive: Any, most: int) -> bytes | None:
    """The whole body of a request, None where it is larger than `most` bytes."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return b""
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _once(body: bytes, receive: Any) -> Callable[[], Awaitable[Message]]:
    """A body that was read, for the application to read."""
    waiting = [body]

    async def read() -> Message:
        return {"type": "http.request", "body": waiting.pop(), "more_body": False} if waiting else await receive()

    return read


async def _refuse(send: Any, status: int, text: str, *headers: tuple[bytes, bytes]) -> None:
    plain = (b"content-type", b"text/plain; charset=utf-8")
    await send({"type": "http.response.start", "status": status, "headers": [plain, *headers]})
    await send({"type": "http.response.body", "body": text.encode()})


def _cookie(header: str, name: str) -> str:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _equal(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), secret.encode())
