"""What stands before every route of the HTTP API: token, rate, headers, access log.

Outside of the routes, so that none can be forgotten: what is no route answers nobody either. Who
names no token, or a wrong one, has a rate of its own and cannot use up that of others.
"""

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ssn_agent.labels.token import Token
from ssn_agent.log import logger

OPEN = {("GET", "/v1/health")}
"""What needs no token."""
TOLD_EVERY_S = 1.0
"""At most so often, a line in the log of those who name no token: they cannot fill the disk."""
MAX_PATH = 200
"""Characters of a path in the log."""
HEADERS = {
    "cache-control": "no-store",
    "connection": "close",  # each connection has a time of its own, and ends with its request
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
_IS_KNOWN = "is_known"


def is_known_in(scope: Mapping[str, Any]) -> bool:
    """Say whether a request that came to the guard has named the token."""
    return bool(scope.get("state", {}).get(_IS_KNOWN))


class Rate:
    """So many a second over a while, and twice as many at once."""

    def __init__(self, per_s: float) -> None:
        self._per_s = per_s
        self._left = 2 * per_s
        self._at = time.monotonic()

    def allows(self) -> bool:
        """Say whether one more may be; if so it counts."""
        now = time.monotonic()
        self._left = min(2 * self._per_s, self._left + (now - self._at) * self._per_s)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True


@dataclass(frozen=True)
class _Refusal:
    status: int
    problem: str
    headers: Mapping[str, str]


class Guard:
    """An ASGI application around another one."""

    def __init__(self, app: ASGIApp, token: Token, requests_per_s: float) -> None:
        self._app = app
        self._token = token
        self._known = Rate(requests_per_s)
        self._anonymous = Rate(requests_per_s)
        self._untold = 0
        self._told_at = -TOLD_EVERY_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] != "http":
            return
        began = time.monotonic()
        status = 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_encoded(HEADERS)]
            await send(message)

        given = [value for name, value in scope["headers"] if name == b"authorization"]
        is_known = self._token.is_named_by(given[0] if len(given) == 1 else b"")
        scope.setdefault("state", {})[_IS_KNOWN] = is_known
        refusal = self._refusal(scope, is_known)
        try:
            if refusal is None:
                await self._app(scope, receive, told)
            else:
                await _refuse(refusal, told)
        finally:
            self._tell(scope, status, began, is_known=is_known)

    def _tell(self, scope: Scope, status: int, began: float, *, is_known: bool) -> None:
        """Log a request; of those without the token one a second, with how many there were."""
        now = time.monotonic()
        more = {}
        if not is_known:
            self._untold += 1
            if now - self._told_at < TOLD_EVERY_S:
                return
            more = {"without_token": self._untold}
            self._untold, self._told_at = 0, now
        client = scope.get("client") or ("",)
        logger().info(
            "http request",
            method=scope["method"],
            path=scope["path"][:MAX_PATH],
            status=status,
            client=client[0],
            took_ms=round((now - began) * 1000, 1),
            **more,
        )

    def _refusal(self, scope: Scope, is_known: bool) -> _Refusal | None:
        if not (self._known if is_known else self._anonymous).allows():
            return _Refusal(429, "too many requests; wait a second", {"retry-after": "1"})
        if is_known or (scope["method"], scope["path"]) in OPEN:
            return None
        problem = "name the token: Authorization: Bearer ..."
        return _Refusal(401, problem, {"www-authenticate": "Bearer"})


async def _refuse(refusal: _Refusal, send: Send) -> None:
    body = json.dumps({"problem": refusal.problem}).encode()
    headers = {
        **refusal.headers,
        "content-type": "application/json",
        "content-length": str(len(body)),
    }
    await send(
        {
            "type": "http.response.start",
            "status": refusal.status,
            "headers": _encoded(headers),
        }
    )
    await send({"type": "http.response.body", "body": body})


def _encoded(headers: Mapping[str, str]) -> Iterable[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
