"""Search over HTTP on real Postgres: what is found, by whom, in which order, page by page, and what it costs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any

import pytest

from schemas import ids
from schemas.ids import ChatId, UserId
from services.query.api.paths import search as paths
from services.runtime.postgres.sql import load_sql
from tests.support.read_model import Api, World, read_model_database, run, somebody, world_of
from tests.unit.schemas.test_search import WORDS_IN_RUNS


@pytest.fixture(scope="module")
def dsn(postgres: str) -> Iterator[str]:
    with read_model_database(postgres) as dsn:
        yield dsn


@pytest.fixture
def world(dsn: str) -> Iterator[World]:
    with world_of(dsn) as world:
        yield world


async def found(api: Api, user: UserId, q: str, **more: Any) -> list[tuple[str, int]]:
    """Return (chat_id, seq) of everything that a search finds, page by page."""
    items: list[tuple[str, int]] = []
    cursor: str | None = None
    while True:
        page = await api.json("/v1/search", user, q=q, cursor=cursor, **more)
        items += [(item["chat_id"], item["seq"]) for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            return items


def test_a_found_message_is_shown_with_its_matches(dsn: str, world: World) -> None:
    anna, ben = somebody(), somebody()
    chat = world.chat(anna, ben)
    world.send(chat, anna, "x" * 300)
    world.send(chat, ben, "👍 Un CAFÉ\u0301 <b>noir</b>, un café", sent_at="2026-01-31T12:00:00.045Z")

    async def story(api: Api) -> None:
        page = await api.json("/v1/search", anna, q="cafe noi")
        (item,) = page["items"]
        assert item == {
            "chat_id": chat, "seq": 2, "message_id": ids.command_id(chat, ben, "k-2"), "sender_id": ben,
            "sent_at": "2026-01-31T12:00:00.045Z",
            "snippet": "👍 Un CAFÉ\u0301 <b>noir</b>, un café", "snippet_start": 0,
            "matches": [{"start": 5, "end": 10}, {"start": 14, "end": 17}, {"start": 27, "end": 31}],
        }  # fmt: skip
        assert page["next"] is None

    run(dsn, story)


@pytest.mark.parametrize(("text", "words"), WORDS_IN_RUNS)
def test_every_word_inside_a_run_is_found(dsn: str, world: World, text: str, words: list[str]) -> None:
    anna = somebody()
    chat = world.chat(anna)
    world.send(chat, anna, "something else")
    world.send(chat, anna, f"before {text}, after")

    async def story(api: Api) -> None:
        for word in (*words, *(word[0] for word in words), text):
            assert await found(api, anna, word) == [(chat, 2)], word

    run(dsn, story)


def test_only_present_members_find_a_message(dsn: str, world: World) -> None:
    anna, ben, stranger = somebody(), somebody(), somebody()
    chat = world.chat(anna, ben)
    world.send(chat, anna, "wombat")

    async def story(api: Api) -> None:
        assert await found(api, ben, "wombat") == [(chat, 1)]
        world.leave(chat, ben)
        assert await found(api, ben, "wombat") == []
        world.join(chat, ben)
        assert await found(api, ben, "wombat") == [(chat, 1)]
        for given in (chat, str(somebody()), None):
            nothing = await api.get("/v1/search", stranger, q="wombat", chat_id=given)
            assert (nothing.status_code, nothing.json()) == (200, {"items": [], "next": None})

    run(dsn, story)


def test_filters_and_bounds(dsn: str, world: World) -> None:
    anna, ben = somebody(), somebody()
    one, other = world.chat(anna, ben), world.chat(anna)
    for day in (1, 2, 3):
        world.send(one, (anna, ben)[day % 2], "numbat", sent_at=f"2026-03-0{day}T12:00:00Z")
    world.send(other, anna, "numbat", sent_at="2026-03-02T12:00:00Z")

    async def story(api: Api) -> None:
        def same_time(*seqs: tuple[ChatId, int]) -> list[tuple[ChatId, int]]:
            return sorted(seqs, reverse=True)

        second = same_time((one, 2), (other, 1))
        assert await found(api, anna, "numbat") == [(one, 3), *second, (one, 1)]
        assert await found(api, anna, "numbat", chat_id=other) == [(other, 1)]
        assert await found(api, anna, "numbat", sender_id=ben) == [(one, 3), (one, 1)]
        assert await found(api, anna, "numbat", before="2026-03-02T12:00:00Z") == [(one, 1)]
        assert await found(api, anna, "numbat", after="2026-03-02T12:00:00Z") == [(one, 3)]
        assert await found(api, anna, "numbat", before="2026-03-03T12:00:00Z", after="2026-03-01T12:00:00Z") == second
        assert await found(api, anna, "numbat", before="1970-01-01T00:00:00Z") == []
        assert await found(api, anna, "numbat", limit=1) == [(one, 3), *second, (one, 1)]

    run(dsn, story)


AGES_H = [0, 0, 1, 7, 8, 9, 31, 32, 40, 63, 64, 95, 96, 250, 300, 1_000, 1_023, 1_024, 1_500, 2_048, 4_000, 6_000,
          9_000, 30_000, 34_000, 36_000, 60_000, 200_000]  # fmt: skip
"""Ages of messages in hours, on both sides of the edges of every window."""


@pytest.mark.parametrize("newest", ["2026-11-30T11:20:00Z", "2026-12-01T00:00:00Z", "1995-06-05T04:03:02.001Z"])
@pytest.mark.parametrize("few_chats", [0, 50])
@pytest.mark.parametrize("query", ["quokka", '"quokka"'])
def test_no_message_is_left_out_or_repeated_however_old_it_is(
    dsn: str, world: World, newest: str, few_chats: int, query: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for setting in ("FEW_CHATS", "FEW_CHATS_OF_A_PREFIX"):
        monkeypatch.setattr(paths, setting, few_chats)
    anna = somebody()
    chats = [world.chat(anna) for _ in range(3)]
    sent: list[tuple[str, ChatId, int]] = []
    ages = [age for age in AGES_H if age < 200_000 or newest >= "2026"]
    for n, age in enumerate(reversed(ages)):
        ((at,),) = world.sql(
            "SELECT (%(newest)s::timestamptz - make_interval(hours => %(age)s::integer))::text", newest=newest, age=age
        )
        chat = chats[n % 3]
        sent.append((at, chat, world.send(chat, anna, "quokka", sent_at=at)))
        world.send(chat, anna, "other", sent_at=at)
    expected = [(chat, seq) for _, chat, seq in sorted(sent, reverse=True)]

    async def story(api: Api) -> None:
        for limit in (1, 4, 50):
            assert await found(api, anna, query, limit=limit) == expected, limit

    run(dsn, story)


def test_a_page_goes_on_after_candidates_whose_texts_do_not_match(
    dsn: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "CANDIDATES", 3)
    anna = somebody()
    chat = world.chat(anna)
    for n in range(20):
        world.send(chat, anna, "東京都庁" if n % 7 == 0 else "東京 京都 都庁")

    async def story(api: Api) -> None:
        first = await api.json("/v1/search", anna, q="東京都庁", limit=2)
        assert first["next"] is not None
        assert await found(api, anna, "東京都庁", limit=2) == [(chat, 15), (chat, 8), (chat, 1)]
        assert await found(api, anna, '"京都 東京"') == []

    run(dsn, story)


def test_a_request_compares_a_bounded_amount_of_text(dsn: str, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "TEXT_CHARACTERS", 25)
    anna = somebody()
    chat = world.chat(anna)
    for _ in range(10):
        world.send(chat, anna, "ten quolls")

    async def story(api: Api) -> None:
        page = await api.json("/v1/search", anna, q="quolls")
        assert len(page["items"]) == 3
        assert len(await found(api, anna, "quolls")) == 10

    run(dsn, story)


def test_the_present_text_decides_while_search_is_behind_or_ahead_of_history(dsn: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)
    for _ in range(4):
        world.send(chat, anna, "potoroo")
    world.sql("UPDATE chat_messages SET message_text = 'edited' WHERE chat_id = %(c)s AND seq = 1", c=chat)
    world.delete(chat, 2)
    world.sql("DELETE FROM chat_messages WHERE chat_id = %(c)s AND seq = 3", c=chat)  # history does not have it yet

    async def story(api: Api) -> None:
        assert await found(api, anna, "potoroo") == [(chat, 4)]
        assert await found(api, anna, "edited") == []
        world.index(chat, 1)
        assert await found(api, anna, "edited") == [(chat, 1)]

    run(dsn, story)


def test_a_token_waits_for_the_tables_and_for_search(dsn: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)

    async def story(api: Api) -> None:
        tables = ("search_positions", "projection_positions")
        for behind, ahead in (tables, tables[::-1]):
            world.sql("DELETE FROM projection_positions; DELETE FROM search_positions")
            world.head(3, index=7, table=ahead)
            world.head(3, index=6, table=behind)
            waiting = asyncio.create_task(api.json("/v1/search", anna, q="bilby", at_least="3:7"))
            done, _ = await asyncio.wait({waiting}, timeout=0.3)
            assert not done, behind
            with world.transaction():
                seq = world.send(chat, anna, "bilby")
                world.head(3, index=7, table=behind)
            assert (await waiting)["items"][0]["seq"] == seq

    run(dsn, story)


def test_a_token_that_search_does_not_reach_is_503_there_and_200_elsewhere(dsn: str, world: World) -> None:
    anna = somebody()
    world.chat(anna)
    world.sql("DELETE FROM projection_positions; DELETE FROM search_positions")
    world.head(4, index=9)
    world.head(4, index=8, table="search_positions")

    async def story(api: Api) -> None:
        assert (await api.get("/v1/search", anna, q="bilby", at_least="4:9")).status_code == 503
        assert (await api.get("/v1/chats", anna, at_least="4:9")).status_code == 200

    run(dsn, story, at_least_timeout_s=0.2)


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({}, "/q"),
        ({"q": ""}, "/q"),
        ({"q": "👍"}, "/q"),
        ({"q": "x" * 201}, "/q"),
        ({"q": "a " * 33}, "/q"),
        ({"q": "hello", "limit": 201}, "/limit"),
        ({"q": "hello", "cursor": "bm90IG91cnM"}, "/cursor"),
        ({"q": "hello", "chat_id": "x"}, "/chat_id"),
        ({"q": "hello", "before": "yesterday"}, "/before"),
        ({"q": "hello", "after": "2026-02-30T00:00:00Z"}, "/after"),
        ({"q": "hello", "order": "rank"}, "/order"),
    ],
)
def test_a_wrong_parameter_is_named(dsn: str, query: dict[str, Any], pointer: str) -> None:
    async def story(api: Api) -> None:
        answer = await api.get("/v1/search", somebody(), **query)
        assert answer.status_code == 400, answer.text
        assert answer.json()["type"] == "/problems/malformed"
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]

    run(dsn, story)


STATEMENTS = load_sql("services.query.sql")


@pytest.fixture(scope="module")
def large(postgres: str) -> Iterator[tuple[World, UserId, UserId]]:
    """40,000 messages in 20 chats over a year; the user is in half of them. Then a user in none."""
    user, stranger = somebody(), somebody()
    with read_model_database(postgres) as dsn, world_of(dsn) as world:
        chats = [world.chat(somebody(), *([user] if n % 2 else [])) for n in range(20)]
        world.sql(
            "CREATE TEMP TABLE sent AS SELECT g, (%(chats)s::uuid[])[1 + g %% 20] AS chat_id, 1 + g / 20 AS seq,"
            " '2026-01-01'::timestamptz + g * interval '13 minutes' AS at, CASE WHEN g %% 1001 = 7 THEN 'rare' ELSE"
            " 'common' END AS word FROM generate_series(0, 39999) AS g",
            chats=chats,
        )
        world.sql(
            "INSERT INTO chat_messages (chat_id, seq, message_id, sender_id, message_text, client_generated_id,"
            " reply_count, media_urls, sent_at, position, changed_position) SELECT chat_id, seq, gen_random_uuid(),"
            " chat_id, word, g, 0, '{}', at, seq, seq FROM sent"
        )
        world.sql(
            "INSERT INTO message_search SELECT chat_id, seq, chat_id, at, array_to_tsvector(ARRAY[word,"
            " 'c:' || chat_id, 'h:' || h, 'i:' || h / 32, 'j:' || h / 1024]) FROM sent, LATERAL"
            " (SELECT floor(extract(epoch FROM at) / 3600)::bigint AS h) hours"
        )
        world.sql("UPDATE chats SET last_message_at = (SELECT max(at) FROM sent WHERE sent.chat_id = chats.chat_id)")
        world.sql("VACUUM ANALYZE")
        yield world, user, stranger


def explained(world: World, caller: UserId, terms: str, *, plan: str) -> list[dict[str, Any]]:
    """Return the nodes of the executed plan, each before those below it."""
    text = STATEMENTS.text("search")
    names = list(dict.fromkeys(re.findall(r"%\((\w+)\)s", text)))
    text = re.sub(r"%\((\w+)\)s", lambda match: f"${names.index(match[1]) + 1}", text)
    values: dict[str, str] = {
        "caller_id": caller, "in_chat": "", "of_sender": "", "before": "infinity", "after": "-infinity",
        "cursor_at": "infinity", "cursor_chat_id": "ffffffff-ffff-ffff-ffff-ffffffffffff", "cursor_seq": "0",
        "terms": terms, "few_chats": "50", "fetch": "51", "has_prefix": "false",
        "again": terms,
    }  # fmt: skip
    given = ", ".join("'{}'".format(values[name].replace("'", "''")) for name in names)
    nodes: list[dict[str, Any]] = []

    def add(node: dict[str, Any]) -> None:
        nodes.append(node)
        for child in node.get("Plans", []):
            add(child)

    with world.transaction():
        world.sql(f"SET LOCAL plan_cache_mode = {plan}")
        world.sql(STATEMENTS.text("search_settings"))
        world.sql(f"PREPARE asked AS {text}")
        ((found,),) = world.sql(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE asked ({given})")
        world.sql("DEALLOCATE asked")
    add(found[0]["Plan"])
    return nodes


@pytest.mark.parametrize("plan", ["force_generic_plan", "force_custom_plan"])
def test_a_search_reads_windows_of_its_index_until_the_page_is_full(
    large: tuple[World, UserId, UserId], plan: str
) -> None:
    world, user, _ = large

    def scans(terms: str) -> tuple[int, int]:
        """Return how many windows were read, and how many rows of messages."""
        nodes = explained(world, user, terms, plan=plan)
        assert not any(node["Node Type"] == "Seq Scan" for node in nodes)
        assert not any(node["Parallel Aware"] for node in nodes)
        of_search = [node for node in nodes if node.get("Relation Name") == "message_search"]
        assert {node["Node Type"] for node in of_search} == {"Bitmap Heap Scan"}
        indexes = [node for node in nodes if node["Node Type"] == "Bitmap Index Scan"]
        assert {node["Index Name"] for node in indexes} == {"message_search_tokens"}
        assert len(of_search) == len(indexes) == 7
        read = [node for node in of_search if node["Actual Loops"]]
        return len(read), sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in read)

    windows, rows = scans("'common'")
    assert windows < 5
    assert rows < 2_000, "of 40,000 that match"
    windows, rows = scans("'rare'")
    ((own,),) = world.sql(
        "SELECT count(*) FROM sent JOIN chat_participants p ON p.chat_id = sent.chat_id WHERE user_id = %(user)s"
        " AND word = 'rare'",
        user=user,
    )
    assert windows == 7
    assert own <= rows <= 2 * own, "of the user's chats alone; the last window leaves out those of the others"
    assert scans("'common' & 'rare'") == (7, 0)


@pytest.mark.parametrize("plan", ["force_generic_plan", "force_custom_plan"])
def test_a_stranger_makes_no_search(large: tuple[World, UserId, UserId], plan: str) -> None:
    world, _, stranger = large
    nodes = explained(world, stranger, "'common'", plan=plan)
    tables = {node["Relation Name"] for node in nodes if "Relation Name" in node and node["Actual Loops"]}
    assert tables <= {"chat_participants", "message_search"}
    found = [node for node in nodes if node.get("Relation Name") == "message_search"]
    assert sum(node["Actual Rows"] + node.get("Rows Removed by Filter", 0) for node in found) == 0
