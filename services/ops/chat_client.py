"""A client of the HTTP API for people at a terminal: it retries, and returns once its writes can be read.

A command is sent under one key until the response is 200 or 201, so that a retry never counts twice. After a 202, a 5xx
or a broken connection, the same request is sent again.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import httpx

from services.ops.errors import Exit, OpsError

DEADLINE_S: Final = 15.0
PAUSE_S: Final = 0.2
READABLE_WITHIN_S: Final = 5.0
LARGEST_PAGE: Final = 200
LONGEST_WAIT_S: Final = 60.0
"""However long a Retry-After asks for."""
AT_LEAST: Final = "Gapless-At-Least"


class ApiRefused(OpsError):
    """The API refused a request; the message is the problem's detail."""

    def __init__(self, sentence: str, problem: Mapping[str, Any] | None = None) -> None:
        super().__init__(sentence)
        self.problem: Final = problem or {}


class ApiAway(OpsError):
    """The API did not answer within the deadline, or a stream of it was cut."""

    exit_code = Exit.UNAVAILABLE

    def __init__(self, sentence: str, *, retry_after_s: float | None = None) -> None:
        """:param retry_after_s: when to come back, if the API said so."""
        super().__init__(sentence)
        self.retry_after_s: Final = retry_after_s


class ChatClient:
    """One user's calls to the API. Raises ApiRefused and ApiAway."""

    def __init__(self, http: httpx.Client, token: str) -> None:
        self._http = http
        self._headers = {"Authorization": f"Bearer {token}"}

    def create_group(self, name: str) -> tuple[str, bool]:
        """Create the caller's group of this name. Returns its id, and whether it is new."""
        key = hashlib.sha256(name.encode()).hexdigest()
        try:
            made = self._command("POST", "/v1/chats", {"kind": "group", "name": name, "members": []}, key=key)
        except ApiRefused as refused:
            if refused.problem.get("type") != "/problems/chat_exists":
                raise
            return str(refused.problem["chat_id"]), False  # created under another key
        return str(made["chat_id"]), not made["duplicate"]

    def add_member(self, chat_id: str, user_id: str) -> dict[str, Any]:
        """Add a member. Returns the same answer if the user is a member already."""
        return self._command("PUT", f"/v1/chats/{chat_id}/members/{user_id}", None)

    def send(self, chat_id: str, text: str, *, key: str | None) -> dict[str, Any]:
        """Send a message under `key`, or under a fresh one. Returns the original's seq if the key was used before."""
        key = key if key is not None else secrets.token_hex(16)
        return self._command("POST", f"/v1/chats/{chat_id}/messages", {"text": text}, key=key)

    def me(self) -> str:
        """Return the caller's user_id."""
        return str(self._request("GET", "/v1/me")["user_id"])

    def history(
        self, chat_id: str, *, after_seq: int | None, limit: int, at_least: str | None = None
    ) -> dict[str, Any]:
        """Return a page of messages by rising seq: the newest, or those after a seq.

        :param at_least: a token; the page shows what it stands for.
        """
        page = {"limit": limit} if after_seq is None else {"limit": limit, "after_seq": after_seq}
        headers = {} if at_least is None else {AT_LEAST: at_least}
        return self._request("GET", f"/v1/chats/{chat_id}/messages", params=page, headers=headers)

    def changes(self, chat_id: str, *, after_position: int, at_least: str) -> dict[str, Any]:
        """Return a page of what changed in a chat after a position. `at_least`: as in `history`."""
        page, headers = {"after_position": after_position}, {AT_LEAST: at_least}
        return self._request("GET", f"/v1/chats/{chat_id}/changes", params=page, headers=headers)

    def chat(self, chat_id: str) -> dict[str, Any]:
        """Return a chat, as the list of chats shows it."""
        return self._request("GET", f"/v1/chats/{chat_id}")

    def members(self, chat_id: str) -> Iterator[dict[str, Any]]:
        """Yield the present members of a chat."""
        return self._all(f"/v1/chats/{chat_id}/members")

    @contextmanager
    def live(
        self, chat_id: str, *, after_position: int, all_receipts: bool, silence_s: float
    ) -> Iterator[Iterator[bytes]]:
        """Open the chat's event stream after a position. Yields its bytes.

        Raises ApiAway, also within the block, if the stream cannot be opened now, breaks, or is silent for too long.
        """
        request = self._http.build_request(
            "GET",
            f"/v1/chats/{chat_id}/live",
            params={"after_position": after_position, "receipts": "all" if all_receipts else "some"},
            headers={**self._headers, "Accept": "text/event-stream"},
            timeout=httpx.Timeout(DEADLINE_S, read=silence_s),
        )
        try:
            answer = self._http.send(request, stream=True)
            try:
                if answer.status_code != httpx.codes.OK:
                    answer.read()
                    raise _not_opened(answer)
                yield answer.iter_raw()
            finally:
                answer.close()
        except httpx.TransportError as error:
            raise ApiAway(f"{self._http.base_url} cannot be followed: {error or type(error).__name__}") from None

    def chats(self) -> Iterator[dict[str, Any]]:
        """Yield the caller's chats by last activity."""
        return self._all("/v1/chats")

    def chat_id(self, name: str) -> str:
        """Return the id of the caller's chat of this name; an id is returned as it is.

        Raises ApiRefused if no chat or more than one has the name.
        """
        try:
            return str(UUID(name))
        except ValueError:
            found = [str(chat["chat_id"]) for chat in self.chats() if chat["name"] == name]
        if len(found) == 1:
            return found[0]
        if not found:
            raise ApiRefused(f"You have no chat named {name}: make one with `gapless chat new`, or name its chat_id.")
        raise ApiRefused(f"You have {len(found)} chats named {name}: name one by its chat_id, {' or '.join(found)}.")

    def _all(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the items of all pages of a list."""
        page: dict[str, Any] = {"limit": LARGEST_PAGE}
        while True:
            answer = self._request("GET", path, params=page)
            yield from answer["items"]
            if answer["next"] is None:
                return
            page["cursor"] = answer["next"]

    def _command(
        self, method: str, path: str, body: Mapping[str, Any] | None, *, key: str | None = None
    ) -> dict[str, Any]:
        headers = {} if key is None else {"Idempotency-Key": f'"{_escaped(key)}"'}
        answer = self._request(method, path, json=body, headers=headers)
        self._wait_until_readable(str(answer["chat_id"]), str(answer["token"]))
        return answer

    def _wait_until_readable(self, chat_id: str, token: str) -> None:
        """Wait until a read sees the command, but not for long: it is in the log in any case."""
        deadline_s = time.monotonic() + READABLE_WITHIN_S
        headers = {**self._headers, AT_LEAST: token}
        while time.monotonic() < deadline_s:
            try:
                answer = self._http.get(f"/v1/chats/{chat_id}/latest-seq", headers=headers)
            except httpx.TransportError:
                return
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
                return

    def _request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, **content: Any
    ) -> dict[str, Any]:
        deadline_s = time.monotonic() + DEADLINE_S
        while True:
            try:
                answer = self._http.request(method, path, headers={**self._headers, **(headers or {})}, **content)
            except httpx.TransportError as error:
                last = str(error) or type(error).__name__
            else:
                if answer.status_code in (httpx.codes.OK, httpx.codes.CREATED):
                    found: dict[str, Any] = answer.json()
                    return found
                problem = _problem(answer)
                last = _sentence(answer, problem)
                if not (answer.status_code == httpx.codes.ACCEPTED or answer.is_server_error):
                    raise ApiRefused(last, problem)
            if time.monotonic() > deadline_s:
                raise ApiAway(f"{self._http.base_url} did not do this within {DEADLINE_S:.0f} s: {last}")
            time.sleep(PAUSE_S)


def _escaped(key: str) -> str:
    """Return the inside of a quoted string of a structured field (RFC 8941)."""
    return key.replace("\\", "\\\\").replace('"', '\\"')


def _not_opened(answer: httpx.Response) -> OpsError:
    """Return why a stream was not opened: ApiAway if it may be later, else ApiRefused."""
    problem = _problem(answer)
    sentence = _sentence(answer, problem)
    if answer.status_code != httpx.codes.TOO_MANY_REQUESTS and not answer.is_server_error:
        return ApiRefused(sentence, problem)
    after = answer.headers.get("Retry-After", "")
    return ApiAway(sentence, retry_after_s=min(float(after), LONGEST_WAIT_S) if after.isdecimal() else None)


def _sentence(answer: httpx.Response, problem: Mapping[str, Any]) -> str:
    return str(problem.get("detail") or problem.get("title") or f"{answer.url} answers {answer.status_code}")


def _problem(answer: httpx.Response) -> dict[str, Any]:
    """Return a problem document; empty if the response is something else, for example a proxy's error page."""
    try:
        problem = answer.json()
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}
