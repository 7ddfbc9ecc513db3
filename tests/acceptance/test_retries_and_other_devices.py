"""A retry after another user has changed the same thing, on the whole system: it is answered and it undoes nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid5

import httpx
import pytest

from tests.support.chat_log import ANNA, BEN, CARL
from tests.support.running_stack import RunningStack

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningStack]:
    async with RunningStack.up(tmp_path_factory.mktemp("devices"), "--sequencers", "1") as stack:
        yield stack


@pytest.fixture
async def http(stack: RunningStack) -> AsyncIterator[httpx.AsyncClient]:
    async with stack.client() as http:
        yield http


class Device:
    """One user's device, with a chat to act in."""

    def __init__(self, stack: RunningStack, http: httpx.AsyncClient, user: str) -> None:
        self._http = http
        self._authorization = f"Bearer {stack.token(user)}"

    async def __call__(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        token: str | None = None,
        if_match: str | None = None,
        if_none_match: str | None = None,
    ) -> httpx.Response:
        """:param key: the idempotency key. :param token: of an answer that the read must hold."""
        named = {
            "Idempotency-Key": None if key is None else f'"{key}"',
            "Gapless-At-Least": token,
            "If-Match": if_match,
            "If-None-Match": if_none_match,
        }
        headers = {"Authorization": self._authorization, "Prefer": "wait=30"}
        headers |= {name: value for name, value in named.items() if value is not None}
        sent = {} if body is None else {"json": body}
        return await self._http.request(method, path, headers=headers, **sent)


def done(response: httpx.Response, status: int = 200) -> dict[str, Any]:
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    return answer


async def test_a_retried_rename_does_not_undo_the_name_that_an_admin_gave_since(
    stack: RunningStack, http: httpx.AsyncClient
) -> None:
    anna, ben, carl = (Device(stack, http, user) for user in (ANNA, BEN, CARL))
    body = {"kind": "group", "name": "rename", "members": [BEN]}
    chat = done(await anna("POST", "/v1/chats", body, key="create"), 201)["chat_id"]
    path = f"/v1/chats/{chat}"
    assert (await ben("PATCH", path, {"name": "mine"})).status_code == 403
    assert (await carl("PATCH", path, {"name": "mine"})).status_code == 404, "a stranger learns nothing"
    done(await anna("PATCH", f"{path}/members/{BEN}", {"role": "admin"}))

    first = done(await anna("PATCH", path, {"name": "Anna's"}, key="rename-1"))
    second = done(await ben("PATCH", path, {"name": "Ben’s 名前"}, key="rename-1"))
    again = done(await anna("PATCH", path, {"name": "Anna's"}, key="rename-1"))
    assert (again["position"], again["duplicate"]) == (first["position"], True)
    assert second["position"] == first["position"] + 1
    other = await anna("PATCH", path, {"name": "something else"}, key="rename-1")
    assert (other.status_code, other.json()["type"]) == (422, "/problems/conflict")
    same = done(await ben("PATCH", path, {"name": "Ben’s 名前"}))
    assert not same["duplicate"], "another key: the effect is there already"

    shown = done(await anna("GET", path, token=same["token"]))
    assert (shown["name"], shown["last_position"]) == ("Ben’s 名前", second["position"])


async def test_a_retried_reaction_does_not_return_after_another_device_has_removed_it(
    stack: RunningStack, http: httpx.AsyncClient
) -> None:
    anna, ben, carl = (Device(stack, http, user) for user in (ANNA, BEN, CARL))
    body = {"kind": "group", "name": "reactions", "members": [BEN]}
    chat = done(await anna("POST", "/v1/chats", body, key="create"), 201)["chat_id"]
    messages = f"/v1/chats/{chat}/messages"
    done(await anna("POST", messages, {"text": "hello"}, key="hello"), 201)
    heart, thumb = f"{messages}/1/reactions/❤️", f"{messages}/1/reactions/👍"
    first = done(await anna("PUT", heart, key="r1"))
    assert first["emoji"] == "❤", "one form"
    done(await anna("DELETE", f"{messages}/1/reactions/❤", key="r2"))  # the other device
    again = done(await anna("PUT", heart, key="r1"))
    assert (again["position"], again["duplicate"]) == (first["position"], True)
    await ben("PUT", thumb)
    last = done(await anna("PUT", thumb))
    assert (await carl("PUT", thumb)).status_code == 404
    assert (await anna("PUT", f"{messages}/1/reactions/a%20b")).status_code == 422

    shown = done(await anna("GET", f"{messages}/1", token=last["token"]))
    assert shown["reactions"] == [{"emoji": "👍", "count": 2, "mine": True}]
    page = done(await ben("GET", messages, token=last["token"]))
    assert page["messages"][0]["reactions"] == [{"emoji": "👍", "count": 2, "mine": True}]
    who = done(await ben("GET", f"{messages}/1/reactions?emoji=👍&limit=1", token=last["token"]))
    assert who["items"] == [{"emoji": "👍", "user_id": min(ANNA, BEN)}]
    rest = done(await ben("GET", f"{messages}/1/reactions?emoji=👍&cursor={who['next']}"))
    assert (rest["items"], rest["next"]) == ([{"emoji": "👍", "user_id": max(ANNA, BEN)}], None)
    done(await ben("DELETE", f"{messages}/1/reactions/👍"))
    gone = done(await anna("DELETE", f"{messages}/1"))
    shown = done(await anna("GET", f"{messages}/1", token=gone["token"]))
    assert shown["reactions"] == []
    assert (await ben("PUT", thumb)).json()["type"] == "/problems/unknown_message"


async def test_a_hundred_users_react_at_once_and_each_is_counted_once(
    stack: RunningStack, http: httpx.AsyncClient
) -> None:
    users = [str(uuid5(UUID(ANNA), f"reactor {number}")) for number in range(100)]
    anna = Device(stack, http, ANNA)
    body = {"kind": "group", "name": "hundred", "members": users}
    chat = done(await anna("POST", "/v1/chats", body, key="create"), 201)["chat_id"]
    done(await anna("POST", f"/v1/chats/{chat}/messages", {"text": "vote"}, key="vote"), 201)
    path = f"/v1/chats/{chat}/messages/1/reactions/+1"
    answers = await asyncio.gather(*(Device(stack, http, user)("PUT", path) for user in users for _ in range(2)))
    token = max((done(answer)["token"] for answer in answers), key=lambda token: int(token.split(":")[1]))
    shown = done(await anna("GET", f"/v1/chats/{chat}/messages/1", token=token))
    assert shown["reactions"] == [{"emoji": "+1", "count": 100, "mine": False}]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        more = f"&cursor={cursor}" if cursor else ""
        page = done(await anna("GET", f"/v1/chats/{chat}/messages/1/reactions?limit=30{more}", token=token))
        seen += [item["user_id"] for item in page["items"]]
        cursor = page["next"]
    assert seen == sorted(users)


class Talk:
    """A new group of Anna's, and what the tests ask of it."""

    def __init__(self, chat: str) -> None:
        self.path = f"/v1/chats/{chat}"
        self.messages = f"{self.path}/messages"

    @classmethod
    async def begun(cls, anna: Device, name: str, *members: str) -> Talk:
        body = {"kind": "group", "name": name, "members": list(members)}
        return cls(done(await anna("POST", "/v1/chats", body, key="create"), 201)["chat_id"])

    async def send(self, device: Device, text: str, key: str | None = None) -> dict[str, Any]:
        return done(await device("POST", self.messages, {"text": text}, key=key or text), 201)

    async def unread(self, device: Device, token: str) -> int:
        """Return the unread count, which three paths must agree on."""
        of_chat = done(await device("GET", f"{self.path}/unread", token=token))["unread"]
        chat = done(await device("GET", self.path, token=token))
        of_all = {each["chat_id"]: each["unread"] for each in done(await device("GET", "/v1/unread"))["chats"]}
        assert chat["unread"] == of_chat == of_all.get(chat["chat_id"], 0)
        assert isinstance(of_chat, int)
        return of_chat

    async def role(self, reader: Device, user: str, token: str) -> str | None:
        """Return the role of a present member, or None."""
        members = done(await reader("GET", f"{self.path}/members", token=token))["items"]
        return next((member["role"] for member in members if member["user_id"] == user), None)


async def test_a_retry_after_a_timeout_gets_the_original(stack: RunningStack, http: httpx.AsyncClient) -> None:
    anna = Device(stack, http, ANNA)
    talk = await Talk.begun(anna, "timeout")
    await talk.send(anna, "before")
    stack.signal("sequencer-1", signal.SIGSTOP)
    try:
        impatient = {"Authorization": f"Bearer {stack.token(ANNA)}", "Idempotency-Key": "slow", "Prefer": "wait=30"}
        with pytest.raises(httpx.ReadTimeout):
            await http.post(talk.messages, json={"text": "slow"}, headers=impatient, timeout=0.5)
        pending = await http.post(talk.messages, json={"text": "slow"}, headers=impatient | {"Prefer": "respond-async"})
        assert pending.status_code == 202, "the first try is in the log before it"
    finally:
        stack.signal("sequencer-1", signal.SIGCONT)
    again = done(await anna("POST", talk.messages, {"text": "slow"}, key="slow"))
    assert (again["seq"], again["duplicate"]) == (2, True)
    status = done(await anna("GET", pending.headers["Location"], token=again["token"]))
    assert (status["outcome"], status["seq"], status["sent_at"]) == ("accepted", 2, again["sent_at"])
    page = done(await anna("GET", talk.messages, token=again["token"]))
    assert [message["text"] for message in page["messages"]] == ["before", "slow"]


async def test_two_devices_with_the_same_key_send_one_message(stack: RunningStack, http: httpx.AsyncClient) -> None:
    phone, laptop, ben = (Device(stack, http, user) for user in (ANNA, ANNA, BEN))
    talk = await Talk.begun(phone, "two devices", BEN)
    body = {"text": "once"}
    answers = await asyncio.gather(*(device("POST", talk.messages, body, key="k") for device in (phone, laptop) * 10))
    assert sorted(answer.status_code for answer in answers) == [200] * 19 + [201]
    assert {(answer.json()["seq"], answer.json()["position"], answer.json()["sent_at"]) for answer in answers} == {
        (1, 2, answers[0].json()["sent_at"])
    }
    other = await laptop("POST", talk.messages, {"text": "another"}, key="k")
    assert (other.status_code, other.json()["type"]) == (422, "/problems/conflict")
    bens = await talk.send(ben, "once", key="k")
    assert bens["seq"] == 2, "a key is its user's"
    page = done(await phone("GET", talk.messages, token=bens["token"]))
    assert [(m["sender_id"], m["text"], m["client_generated_id"]) for m in page["messages"]] == [
        (ANNA, "once", "k"),
        (BEN, "once", "k"),
    ]


async def test_an_etag_that_was_read_is_the_if_match_of_an_edit(stack: RunningStack, http: httpx.AsyncClient) -> None:
    """Also, a retried edit undoes nothing that another device has edited since."""
    phone, laptop, ben = (Device(stack, http, user) for user in (ANNA, ANNA, BEN))
    talk = await Talk.begun(phone, "etags", BEN)
    sent = await talk.send(phone, "A")
    message = f"{talk.messages}/1"
    read = await laptop("GET", message, token=sent["token"])
    tag = read.headers["ETag"]
    same = await laptop("GET", message, if_none_match=tag)
    assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag)
    head = await laptop("HEAD", message, if_none_match=tag)
    assert (head.status_code, head.headers["ETag"]) == (304, tag)
    reacted = done(await ben("PUT", f"{message}/reactions/👍", key="r"))
    shown = await laptop("GET", message, token=reacted["token"], if_none_match=tag)
    assert (shown.status_code, shown.json()["reactions"][0]["count"]) == (200, 1), "a 304 hides no change"

    first = done(await phone("PATCH", message, {"text": "B"}, key="edit", if_match=tag))
    assert first["revision"] == 1, "a reaction since then refuses no edit"
    stale = await laptop("PATCH", message, {"text": "X"}, key="late", if_match=shown.headers["ETag"])
    assert (stale.status_code, stale.json()["type"], stale.json()["revision"]) == (412, "/problems/stale", 1)
    present = await laptop("GET", message, token=first["token"])
    second = done(await laptop("PATCH", message, {"text": "C"}, key="late", if_match=present.headers["ETag"]))
    again = done(await phone("PATCH", message, {"text": "B"}, key="edit", if_match=tag))
    assert (again["revision"], again["position"], again["duplicate"]) == (1, first["position"], True)
    for tag in (read.headers["ETag"], shown.headers["ETag"], present.headers["ETag"]):
        latest = await ben("GET", message, token=again["token"], if_none_match=tag)
        assert (latest.status_code, latest.json()["text"], latest.json()["revision"]) == (200, "C", 2)
    read_up = await ben("POST", f"{talk.path}/read", {"up_to_seq": 1})
    ticked = await ben("GET", message, token=read_up.headers["Gapless-Token"], if_none_match=latest.headers["ETag"])
    assert (ticked.status_code, ticked.json()["status"]) == (200, "read")
    gone = done(await phone("DELETE", message, key="gone"))
    deleted = await ben("GET", message, token=gone["token"], if_none_match=ticked.headers["ETag"])
    assert (deleted.status_code, deleted.json()["text"]) == (200, None)
    back = await laptop("PATCH", message, {"text": "back"}, key="back", if_match=deleted.headers["ETag"])
    assert (back.status_code, back.json()["type"]) == (404, "/problems/unknown_message")
    assert second["revision"] == 2


async def test_a_message_that_is_deleted_while_unread_no_longer_counts(
    stack: RunningStack, http: httpx.AsyncClient
) -> None:
    anna, ben = (Device(stack, http, user) for user in (ANNA, BEN))
    talk = await Talk.begun(anna, "deleted while unread", BEN)
    for text in ("one", "two", "three", "four"):
        last = await talk.send(anna, text)
    assert await talk.unread(ben, last["token"]) == 4
    gone = done(await anna("DELETE", f"{talk.messages}/2", key="gone"))
    assert await talk.unread(ben, gone["token"]) == 3
    again = done(await anna("DELETE", f"{talk.messages}/2", key="gone"))
    repeated = done(await anna("DELETE", f"{talk.messages}/2", key="gone once more"))
    assert (again["duplicate"], again["position"], repeated["position"]) == (True, gone["position"], gone["position"])
    assert await talk.unread(ben, repeated["token"]) == 3, "a retry takes nothing more off"
    read = await ben("POST", f"{talk.path}/read", {"up_to_seq": 3})
    assert await talk.unread(ben, read.headers["Gapless-Token"]) == 1
    for seq in (1, 4):  # one that is read, one that is not
        gone = done(await anna("DELETE", f"{talk.messages}/{seq}", key=f"gone {seq}"))
    assert await talk.unread(ben, gone["token"]) == 0
    late = await talk.send(anna, "five")
    assert await talk.unread(ben, late["token"]) == 1


async def test_own_messages_are_never_unread(stack: RunningStack, http: httpx.AsyncClient) -> None:
    anna, ben = (Device(stack, http, user) for user in (ANNA, BEN))
    talk = await Talk.begun(anna, "own messages", BEN)
    for number, device in enumerate((anna, ben, ben, anna, ben)):
        last = await talk.send(device, f"{number}")
    assert (await talk.unread(anna, last["token"]), await talk.unread(ben, last["token"])) == (3, 2)
    done(await ben("POST", talk.messages, {"text": "4"}, key="4"))
    gone = done(await ben("DELETE", f"{talk.messages}/2", key="gone"))
    assert (await talk.unread(anna, gone["token"]), await talk.unread(ben, gone["token"])) == (2, 2)
    read = await ben("POST", f"{talk.path}/read", {"up_to_seq": 1})
    assert await talk.unread(ben, read.headers["Gapless-Token"]) == 1
    edited = done(await ben("PATCH", f"{talk.messages}/3", {"text": "edited"}, key="edit"))
    assert (await talk.unread(anna, edited["token"]), await talk.unread(ben, edited["token"])) == (2, 1)


async def test_a_member_who_joins_again_after_a_leave_begins_anew(stack: RunningStack, http: httpx.AsyncClient) -> None:
    anna, ben = (Device(stack, http, user) for user in (ANNA, BEN))
    talk = await Talk.begun(anna, "joined again", BEN)
    bens = await talk.send(ben, "from before")
    left = done(await ben("DELETE", f"{talk.path}/members/{BEN}", key="leave"))
    missed = await talk.send(anna, "missed")
    assert (await ben("POST", talk.messages, {"text": "from outside"}, key="outside")).status_code == 403
    retry = done(await ben("POST", talk.messages, {"text": "from before"}, key="from before"))
    assert (retry["seq"], retry["position"], retry["duplicate"]) == (1, bens["position"], True)
    assert (await ben("GET", talk.messages, token=missed["token"])).status_code == 403
    joined = done(await anna("PUT", f"{talk.path}/members/{BEN}", key="return"))
    assert await talk.unread(ben, joined["token"]) == 0, "what was missed counts as read"
    late = done(await ben("DELETE", f"{talk.path}/members/{BEN}", key="leave"))
    assert (late["position"], late["duplicate"]) == (left["position"], True), "a retried leave leaves no second time"
    after = await talk.send(anna, "after")
    assert await talk.unread(ben, after["token"]) == 1
    outside = await talk.send(ben, "from outside", key="outside")
    page = done(await ben("GET", talk.messages, token=outside["token"]))
    assert [message["text"] for message in page["messages"]] == ["from before", "missed", "after", "from outside"]
    ticks = {message["text"]: message["status"] for message in page["messages"]}
    assert ticks == {"from before": "sent", "missed": "sent", "after": "sent", "from outside": "sent"}
    read = await ben("POST", f"{talk.path}/read", {"up_to_seq": 3})
    page = done(await anna("GET", talk.messages, token=read.headers["Gapless-Token"]))
    assert {m["text"]: m["status"] for m in page["messages"]} == ticks | {"after": "read"}
    assert await talk.role(anna, BEN, outside["token"]) == "member"


async def test_a_removed_members_sends_in_flight_are_all_before_or_all_after_the_removal(
    stack: RunningStack, http: httpx.AsyncClient
) -> None:
    anna, ben = (Device(stack, http, user) for user in (ANNA, BEN))
    talk = await Talk.begun(anna, "in flight", BEN)
    first = await talk.send(ben, "first")
    sends = [asyncio.create_task(ben("POST", talk.messages, {"text": f"{n}"}, key=f"{n}")) for n in range(20)]
    removal = asyncio.create_task(anna("DELETE", f"{talk.path}/members/{BEN}", key="out"))
    sends += [asyncio.create_task(ben("POST", talk.messages, {"text": f"{n}"}, key=f"{n}")) for n in range(20, 40)]
    answers = await asyncio.gather(*sends)
    removed = done(await removal)
    accepted = [answer.json() for answer in answers if answer.status_code == 201]
    refused = [answer for answer in answers if answer.status_code != 201]
    assert all(answer["position"] < removed["position"] for answer in accepted)
    assert {answer.json()["type"] for answer in refused} <= {"/problems/not_member"}
    assert removed["position"] == first["position"] + len(accepted) + 1, "each accepted send took one position"
    assert (await ben("POST", talk.messages, {"text": "late"}, key="late")).status_code == 403
    for number, answer in enumerate(answers):
        again = await ben("POST", talk.messages, {"text": f"{number}"}, key=f"{number}")
        if answer.status_code == 201:
            assert done(again)["seq"] == answer.json()["seq"], "accepted before the removal, so answered after it"
        else:
            assert again.json()["type"] == "/problems/not_member"
    page = done(await anna("GET", f"{talk.messages}?limit=200", token=removed["token"]))
    assert [message["seq"] for message in page["messages"]] == list(range(1, len(accepted) + 2))
    assert {message["text"] for message in page["messages"][1:]} == {
        f"{number}" for number, answer in enumerate(answers) if answer.status_code == 201
    }


async def test_a_retried_change_of_a_member_undoes_nothing_that_another_owner_did_since(
    stack: RunningStack, http: httpx.AsyncClient
) -> None:
    anna, ben = (Device(stack, http, user) for user in (ANNA, BEN))
    talk = await Talk.begun(anna, "members", BEN)
    carl = f"{talk.path}/members/{CARL}"
    done(await anna("PATCH", f"{talk.path}/members/{BEN}", {"role": "owner"}))

    async def undone_by_ben(first: tuple[str, Any], then: tuple[str, Any], leaves: str | None, key: str) -> None:
        """Anna's command, Ben's, Anna's retry: what Ben did stays, and the retry gets the original's position."""
        method, body = first
        original = done(await anna(method, carl, body, key=key))
        assert await talk.role(ben, CARL, original["token"]) != leaves
        done(await ben(then[0], carl, then[1], key=key))
        for _ in range(2):
            retry = done(await anna(method, carl, body, key=key))
            assert (retry["position"], retry["duplicate"]) == (original["position"], True)
        assert await talk.role(ben, CARL, retry["token"]) == leaves

    put, away = ("PUT", None), ("DELETE", None)
    await undone_by_ben(put, away, None, "add")
    await undone_by_ben(("PUT", {"role": "admin"}), ("PATCH", {"role": "member"}), "member", "add with a role")
    await undone_by_ben(("PATCH", {"role": "admin"}), ("PATCH", {"role": "member"}), "member", "role")
    await undone_by_ben(("PUT", {"role": "owner"}), ("PATCH", {"role": "member"}), "member", "role by PUT")
    await undone_by_ben(away, put, "member", "remove")
    conflict = await anna("PATCH", carl, {"role": "owner"}, key="role")
    assert (conflict.status_code, conflict.json()["type"]) == (422, "/problems/conflict")


async def test_every_read_of_the_document_is_private(stack: RunningStack, http: httpx.AsyncClient) -> None:
    anna, stranger = Device(stack, http, ANNA), Device(stack, http, CARL)
    talk = await Talk.begun(anna, "private")
    sent = await talk.send(anna, "hello")
    places = {"chat_id": talk.path.rsplit("/", 1)[1], "seq": "1", "command_id": sent["message_id"]}
    paths = (await http.get("/openapi.json")).json()["paths"].items()
    # A stream does not end, and has a Cache-Control of its own (test_live.py).
    streams = {path for path, item in paths if "text/event-stream" in str(item.get("get"))}
    reads = [path for path, item in paths if "get" in item and path not in streams]
    assert len(reads) >= 12
    for template in reads:
        path = template.format(**places) + ("?q=hello" if template == "/v1/search" else "")
        answer = await anna("GET", path, token=None if template == "/v1/me" else sent["token"])
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "private, no-store"), path
        if "chat_id" in template:
            refused = await stranger("GET", path)
            assert (refused.status_code, refused.headers["Cache-Control"]) == (404, "private, no-store"), path


async def test_the_read_model_of_all_that_equals_the_log(stack: RunningStack, http: httpx.AsyncClient) -> None:
    """Last in this file: what the tests before it left is compared, in a rebuilt version too."""
    await stack.gapless("projection", "rebuild", "--to", "v2")
    for version in ("v1", "v2"):
        assert (await stack.gapless("projection", "verify", "--version", version))["equal"]
    assert (await stack.gapless("log", "verify"))["violations"] == []
