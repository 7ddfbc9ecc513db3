"""`gapless chat …`: a conversation over the HTTP API, from a terminal."""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from services.ops.cli.terminal import ERR, OUT, JsonOption, cell, exit_on_error, print_json
from services.ops.errors import UsageError
from services.ops.stack.address import API_CA, API_URL, DEFAULT_FOLDER, StackOption

if TYPE_CHECKING:
    from services.ops.chat_client import ChatClient

TIMEOUT_S = 40.0
NEWEST = 20
"""Number of messages that `follow` begins with."""
app = typer.Typer(
    no_args_is_help=True,
    help="Create, read and follow chats, and send, over the HTTP API of GAPLESS_API_URL or of the embedded stack here.",
)
UserOption = Annotated[
    str | None,
    typer.Option(help="Act as this user, a UUID or a name, with a development token. Default: GAPLESS_API_TOKEN."),
]
ChatArgument = Annotated[str, typer.Argument(metavar="CHAT", help="The name of one of your groups, or a chat_id.")]


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Unique among the groups that you create.")],
    member: Annotated[list[str] | None, typer.Option(help="A UUID or a name; may be given more than once.")] = None,
    user: UserOption = None,
    as_json: JsonOption = False,
    stack: StackOption = None,
) -> None:
    """Create a group, and add members. Repeating it changes nothing.

    Exit code: 0, 1 refused, 2 wrong usage, 3 the API is away.
    """
    with exit_on_error(), _client(user, stack) as client:
        from services.runtime.access.auth import user_id_of

        issuer = os.environ.get("GAPLESS_JWT_ISSUER", "").removeprefix("*")
        chat_id, is_new = client.create_group(name)
        for each in member or ():
            client.add_member(chat_id, user_id_of(each, issuer=issuer))
    if as_json:
        print_json({"chat_id": chat_id, "new": is_new})
    else:
        OUT.say((name, "green"), f": {'new' if is_new else 'there already'}, chat_id {chat_id}")


@app.command("send")
def send(
    chat: ChatArgument,
    text: Annotated[str, typer.Argument()],
    key: Annotated[
        str | None, typer.Option(help="Key of the message; sending it again under the same key changes nothing.")
    ] = None,
    user: UserOption = None,
    as_json: JsonOption = False,
    stack: StackOption = None,
) -> None:
    """Send a message, and wait until it can be read.

    Exit code: 0, 1 refused, 2 wrong usage, 3 the API is away.
    """
    with exit_on_error(), _client(user, stack) as client:
        sent = client.send(client.chat_id(chat), text, key=key)
    if as_json:
        print_json(sent)
    else:
        OUT.say((f"seq {sent['seq']}", "green"), ", the original's: this key was used before" * sent["duplicate"])


@app.command("read")
def read(
    chat: ChatArgument,
    after_seq: Annotated[int | None, typer.Option(min=0, help="Only messages after this seq.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=200)] = 50,
    user: UserOption = None,
    as_json: JsonOption = False,
    stack: StackOption = None,
) -> None:
    """Show the newest messages of a chat, or those after a seq.

    Exit code: 0, 1 refused, 2 wrong usage, 3 the API is away.
    """
    with exit_on_error(), _client(user, stack) as client:
        page = client.history(client.chat_id(chat), after_seq=after_seq, limit=limit)
    if as_json:
        print_json(page)
        return
    table = Table("seq", "sent at", "sender", "text", "status")
    for message in page["messages"]:
        text = cell("deleted", "dim") if message["deleted_at"] is not None else cell(message["text"])
        sender = cell(message["sender_id"])
        table.add_row(str(message["seq"]), cell(message["sent_at"]), sender, text, cell(message["status"]))
    OUT.print(table)


@app.command("follow")
def follow(
    chat: ChatArgument,
    after_seq: Annotated[
        int | None, typer.Option(min=0, help=f"Begin after this seq. Default: with the newest {NEWEST} messages.")
    ] = None,
    receipts: Annotated[bool, typer.Option("--receipts", help="Also show what others have received and read.")] = False,
    user: UserOption = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each event as the JSON object of its frame, one a line.")
    ] = False,
    stack: StackOption = None,
) -> None:
    """Show the newest messages of a chat, and then what happens in it, until Ctrl-C.

    Each event is one line: messages with their seq, edits, deletions, reactions, members. Times are UTC; users are
    shown by the beginning of their ids, you as `you`. When the connection is cut, it is made again at the same place:
    nothing is missing, and no message is shown twice. After a long cut, a message that changed meanwhile is shown as it
    is now (with --json, as `changed`).

    Exit code: 0, 1 refused or no longer a member, 2 wrong usage, 3 the API is away at the start.
    """
    from services.ops.cli.chat_lines import line_of, style_of
    from services.ops.following.follower import Follower

    try:
        with exit_on_error(), _client(user, stack) as client:
            chat_id, me = client.chat_id(chat), client.me()
            follower = Follower(
                client, chat_id, all_receipts=receipts, notice=lambda sentence: ERR.say(sentence, style="yellow")
            )
            for frame in follower.follow(after_seq=after_seq, newest=NEWEST):
                if frame["type"] == "receipt" and not receipts:
                    continue
                if as_json:
                    print_json(frame)
                elif (line := line_of(frame, me=me)) is not None:
                    OUT.say(line, style=style_of(frame))
    except KeyboardInterrupt:
        ERR.print()


@app.command("list")
def list_chats(user: UserOption = None, as_json: JsonOption = False, stack: StackOption = None) -> None:
    """Show your chats by last activity, with their unread counts.

    Exit code: 0, 1 refused, 2 wrong usage, 3 the API is away.
    """
    with exit_on_error(), _client(user, stack) as client:
        chats = list(client.chats())
    if as_json:
        print_json({"items": chats})
        return
    table = Table("name", "chat_id", "last seq", "unread")
    for chat in chats:
        table.add_row(cell(chat["name"] or ""), cell(chat["chat_id"]), str(chat["last_seq"]), str(chat["unread"]))
    OUT.print(table)


@contextmanager
def _client(user: str | None, stack: Path | None) -> Iterator[ChatClient]:
    import httpx

    from services.ops.chat_client import ChatClient

    url = os.environ.get(API_URL)
    if url is None:
        raise UsageError(f"No stack runs on {DEFAULT_FOLDER} here: start one with `gapless up`, or set {API_URL}.")
    if user is not None:
        from services.ops.stack.token import development_token

        token = development_token(user, data_dir=stack or DEFAULT_FOLDER)
    else:
        token = os.environ.get("GAPLESS_API_TOKEN", "")
    if not token:
        raise UsageError("Say who you are: --user anna, or set GAPLESS_API_TOKEN.")
    # The API is on this machine or named by a variable, so a proxy from the environment is not used.
    verify = ssl.create_default_context(cafile=os.environ.get(API_CA))
    try:
        with httpx.Client(base_url=url, timeout=TIMEOUT_S, trust_env=False, verify=verify) as http:
            yield ChatClient(http, token)
    except httpx.InvalidURL as error:
        raise UsageError(f"{API_URL} is {url}, which is not a URL ({error}).") from None
