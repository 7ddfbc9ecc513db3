"""Curated bugs in what all services share."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

SESSIONS: Final = "tests/integration/postgres/test_postgres_sessions.py"
MANNERS: Final = "tests/unit/runtime/test_http_manners.py"
CONNECTION: Final = "tests/unit/runtime/test_connection.py"
TAKEOVER: Final = "tests/unit/runtime/test_takeover.py"
WEBSOCKET: Final = "tests/unit/runtime/test_websocket.py"
KAFKA_CLIENTS: Final = "tests/integration/kafka/test_kafka_clients.py"
KAFKA_SECURITY: Final = "tests/integration/kafka/test_kafka_security.py"

MUTANTS: Final = (
    Mutant(
        name="only answers that succeed are private",
        file="services/runtime/web/middleware.py",
        good="                    headers.append(PRIVATE)\n",
        bad="                    headers += [PRIVATE] if status < 400 else []\n",
        check="tests/unit/runtime/test_openapi.py",
    ),
    Mutant(
        name="one client of Kafka is opened without its security",
        file="services/runtime/kafka/reader.py",
        good="            **self._kafka.client_options(),\n",
        bad="            bootstrap_servers=self._kafka.bootstrap_servers,\n",
        check="tests/unit/house/test_kafka_clients.py::test_every_client_of_kafka_takes_its_connection_from_one_home",
    ),
    Mutant(
        name="the host name in a broker's certificate is not verified",
        file="services/runtime/tls.py",
        good="    context.follow(files)\n",
        bad="    context.follow(files)\n    context.check_hostname = False\n",
        check=f"{KAFKA_SECURITY}::test_a_broker_with_the_certificate_of_another_host_is_refused",
    ),
    Mutant(
        name="a topic that we may not see is one that is not there",
        file="services/runtime/kafka/deadline.py",
        good="    if issubclass(error, NOT_ALLOWED):\n",
        bad='    if issubclass(error, NOT_ALLOWED) and not what.startswith("describe"):\n',
        check=f"{KAFKA_SECURITY}::test_a_right_that_is_missing_is_said_with_where_to_get_it",
    ),
    Mutant(
        name="a replaced certificate is shown only after a restart",
        file="services/runtime/tls.py",
        good="        self._current = self._loaded()\n\n    def _loaded",
        bad="        self._loaded()\n\n    def _loaded",
        check="tests/integration/ingest/test_https.py::test_a_certificate_is_replaced_at_sighup_without_a_connection_lost",
    ),
    Mutant(
        name="an issuer may lead to keys without TLS",
        file="services/runtime/access/signing_keys.py",
        good="        if not is_safe_key_url(newurl):\n",
        bad="        if not newurl:\n",
        check="tests/unit/runtime/test_auth.py::test_no_key_is_fetched_from_where_the_issuer_must_not_lead",
    ),
    Mutant(
        name="a session takes the defaults it meets",
        file="services/runtime/postgres/session.py",
        good="            await self.execute(pins.for_session)\n",
        bad="            pass\n",
        check=f"{SESSIONS}::test_no_default_of_database_role_or_shell_reaches_a_session",
    ),
    Mutant(
        name="a session that answered read-only is given out again",
        file="services/runtime/postgres/pool.py",
        good="        if is_spent(error):\n",
        bad="        if False:\n",
        check=f"{SESSIONS}::test_no_session_stays_read_only_longer_than_the_database",
    ),
    Mutant(
        name="a session from before the read-only database was writable is used",
        file="services/runtime/postgres/pool.py",
        good="        while session.began_s < self._oldest_s:\n",
        bad="        while False:\n",
        check=f"{SESSIONS}::test_no_session_stays_read_only_longer_than_the_database",
    ),
    Mutant(
        name="one success ends an outage",
        file="services/runtime/health/dependencies.py",
        good="SUCCESSES_TO_RETURN: Final = 2\n",
        bad="SUCCESSES_TO_RETURN: Final = 1\n",
        check="tests/unit/runtime/test_dependencies.py::test_one_success_in_an_outage_is_not_the_end_of_it",
    ),
    Mutant(
        name="the offset that a record claims is believed",
        file="services/runtime/kafka/plain_records.py",
        good='    if delta != index:\n        raise ValueError("a record\'s offset is not its place in the batch")\n',
        bad="    offset += delta - index\n",
        check="tests/unit/runtime/test_kafka_batches.py::test_a_record_that_says_it_is_elsewhere_is_undecodable_where_it_is",
    ),
    Mutant(
        name="compiled code believes the offset that a record claims",
        file="services/runtime/kafka/_framing.pyx",
        good="        if varint(b, &at, end) != self.index - 1:\n"
        '            raise ValueError("a record\'s offset is not its place in the batch")\n'
        "        record.offset = self.base_offset + self.index - 1\n",
        bad="        record.offset = self.base_offset + varint(b, &at, end)\n",
        check="tests/unit/runtime/test_kafka_batches.py::test_a_record_that_says_it_is_elsewhere_is_undecodable_where_it_is",
    ),
    Mutant(
        name="one record that cannot be decoded spoils those behind it",
        file="services/runtime/kafka/plain_records.py",
        good="            yield Undecodable(offset, str(error), max(appended_at, 0))\n",
        bad="            broken = str(error)\n            yield Undecodable(offset, broken, max(appended_at, 0))\n",
        check="tests/integration/sequencer/test_hostile_producer.py::test_one_bad_record_of_a_batch_does_not_spoil_the_others",
    ),
    Mutant(
        name="an encoded slash separates",
        file="services/runtime/web/middleware.py",
        good='_ENCODED_SLASH.sub(b"%252F", raw_path)',
        bad="raw_path",
        check=f"{MANNERS}::test_an_encoded_slash_separates_nothing",
    ),
    Mutant(
        name="two Hosts are taken",
        file="services/runtime/web/middleware.py",
        good='not _is_host(only_header(scope, b"host"))',
        bad='b"host" not in scope[HEADERS]',
        check=f"{MANNERS}::test_a_request_names_its_host_exactly_once",
    ),
    Mutant(
        name="HEAD is not GET",
        file="services/runtime/web/middleware.py",
        good='        is_head = method == "HEAD"\n',
        bad="        is_head = False\n",
        check=f"{MANNERS}::test_head_is_get_without_the_body",
    ),
    Mutant(
        name="browsers cannot read a token",
        file="services/runtime/web/cors.py",
        good='    "Gapless-Token",\n',
        bad="",
        check="tests/unit/house/test_headers.py::test_every_header_that_is_set_is_exposed_to_browsers",
    ),
    Mutant(
        name="a trailer becomes a header",
        file="services/runtime/serving/connection.py",
        good="        self.headers = []  # for trailers, which are never merged into the headers of the request\n",
        bad="",
        check=f"{CONNECTION}::test_a_trailer_is_no_header",
    ),
    Mutant(
        name="half a header is not counted",
        file="services/runtime/serving/connection.py",
        good="            if self._phase != _IDLE:\n                self._count(len(data))\n",
        bad="            pass\n",
        check=f"{CONNECTION}::test_an_endless_head_or_trailer_ends_early_and_costs_nobody_else_anything",
    ),
    Mutant(
        name="a stalled body takes a place",
        file="services/runtime/web/request_bodies.py",
        good='        if message.get("more_body", False):\n',
        bad='        if message.get("more_body", False) and b"transfer-encoding" in dict(scope["headers"]):\n',
        check=f"{CONNECTION}::test_half_a_body_is_408_and_takes_no_place_from_others",
    ),
    Mutant(
        name="the announced length of a body is cut before its zeros",
        file="services/runtime/web/request_bodies.py",
        good='content_length.lstrip(b"0")[:_DIGITS]',
        bad="content_length[:_DIGITS]",
        check=f"{CONNECTION}::test_a_length_with_leading_zeros_is_the_length_that_it_is",
    ),
    Mutant(
        name="a connection that is being answered is given up for another",
        file="services/runtime/serving/connection.py",
        good="        self._phase = _IDLE\n        self._shared.waiting.pop(self, None)\n",
        bad="        self._phase = _IDLE\n",
        check=f"{CONNECTION}::test_one_connection_too_many_costs_the_one_that_has_waited_longest_for_its_client",
    ),
    Mutant(
        name="a connection that was taken over is not counted",
        file="services/runtime/serving/takeover.py",
        good="        connections.taken += 1\n",
        bad="",
        check=f"{TAKEOVER}::test_taken_connections_count_against_the_servers_limit",
    ),
    Mutant(
        name="the server keeps a connection that was taken over",
        file="services/runtime/serving/connection.py",
        good="        self._shared.connections.discard(self)\n",
        bad="",
        check=f"{TAKEOVER}::test_a_stop_of_the_server_neither_waits_for_taken_connections_nor_closes_them",
    ),
    Mutant(
        name="the parser of a connection that was taken over waits for the garbage collector",
        file="services/runtime/serving/connection.py",
        good="        self.parser = None  # type: ignore[assignment]  # breaks the reference cycle",
        bad="        #",
        check=f"{TAKEOVER}::test_the_server_forgets_a_connection_that_was_taken_over_and_still_counts_it",
    ),
    Mutant(
        name="a stream begins although its client has sent more",
        file="services/runtime/serving/connection.py",
        good="        if transport.is_closing() or pipelined or self._sent_more:\n",
        bad="        if transport.is_closing():\n",
        check=f"{TAKEOVER}::test_a_client_that_sends_more_than_its_request_is_closed_instead",
    ),
    Mutant(
        name="frames from before the handshake are lost",
        file="services/runtime/serving/connection.py",
        good="            self._sent_more = upgrade.args[0] < len(data)\n",
        bad="",
        check=f"{WEBSOCKET}::test_a_client_that_sends_frames_before_it_was_accepted_is_closed",
    ),
    Mutant(
        name="a taker does not hear that its client had stopped reading before",
        file="services/runtime/serving/takeover.py",
        good="            protocol.pause_writing()\n",
        bad="            pass\n",
        check=f"{TAKEOVER}::test_the_taker_hears_that_its_client_does_not_read_even_if_it_was_so_before",
    ),
    Mutant(
        name="HTTP/1.0 gets chunks",
        file="services/runtime/serving/connection.py",
        good="            self.cycle.__class__ = Http10Cycle\n",
        bad="            pass\n",
        check=f"{TAKEOVER}::test_no_response_over_http_1_0_is_chunked",
    ),
    Mutant(
        name="a WebSocket client that does not read is read on",
        file="services/runtime/serving/websocket.py",
        good="            self._transport.pause_reading()  # each ping read would be a pong to write\n",
        bad="            pass\n",
        check=f"{WEBSOCKET}::test_pings_of_a_client_that_does_not_read_fill_no_memory",
    ),
    Mutant(
        name="a message behind a bad one is read",
        file="services/runtime/serving/websocket.py",
        good="            if self.closing:\n                break\n",
        bad="",
        check=f"{WEBSOCKET}::test_what_is_not_allowed_closes_with_a_code",
    ),
    Mutant(
        name="a WebSocket that was refused for its input is reset",
        file="services/runtime/serving/websocket.py",
        good="            self._transport.write_eof()\n",
        bad="            self._transport.close()\n",
        check=f"{WEBSOCKET}::test_a_client_that_is_still_sending_sees_why_it_was_closed",
    ),
    Mutant(
        name="a closing WebSocket waits for its client for ever",
        file="services/runtime/serving/websocket.py",
        good="            self._deadline = asyncio.get_running_loop().call_later(LINGER_S, transport.abort)\n",
        bad="            self._deadline = asyncio.get_running_loop().call_later(3600, transport.abort)\n",
        check=f"{WEBSOCKET}::test_a_client_that_does_not_answer_the_closing_handshake_is_aborted",
    ),
    Mutant(
        name="a lost WebSocket waits for the garbage collector",
        file="services/runtime/serving/websocket.py",
        good="        self._frames.parser.close()\n",
        bad="",
        check=f"{WEBSOCKET}::test_a_lost_connection_is_freed_without_a_search_for_cycles",
    ),
    Mutant(
        name="one token takes all the places",
        file="services/runtime/web/concurrency.py",
        good="        if of_caller >= self._limit_per_caller and caller:\n",
        bad="        if False:\n",
        check="tests/unit/runtime/test_http.py::test_one_token_takes_its_share_of_the_places_and_no_more",
    ),
    Mutant(
        name="partitions that somebody added are assigned",
        file="services/runtime/kafka/group.py",
        good="{partition for partition in there if partition < self._count}",
        bad="set(there)",
        check=f"{KAFKA_CLIENTS}::test_partitions_beyond_the_logs_are_neither_assigned_nor_served",
    ),
    Mutant(
        name="partitions that somebody added are served if an older release assigns them",
        file="services/runtime/kafka/group.py",
        good=" for tp in assigned if tp.partition < self._partitions)",
        bad=" for tp in assigned)",
        check=f"{KAFKA_CLIENTS}::test_partitions_beyond_the_logs_are_neither_assigned_nor_served",
    ),
    Mutant(
        name="topics are not looked at again",
        file="services/runtime/kafka/topic_watch.py",
        good="                await asyncio.sleep(self._every_s)\n",
        bad="                await asyncio.sleep(1_000 * self._every_s)\n",
        check="tests/crash/test_topics_changed.py::"
        "test_a_setting_that_deletes_history_is_said_at_once_by_those_that_run",
    ),
    Mutant(
        name="libraries write what they like",
        file="services/runtime/observe/logs.py",
        good="    handler.addFilter(LibraryLines())\n",
        bad="",
        check="tests/unit/runtime/test_repeated_lines.py::test_the_logging_of_a_process_limits_its_libraries",
    ),
    Mutant(
        name="a discarded producer keeps its connections",
        file="services/runtime/kafka/discard.py",
        good="    client: Any = producer.client\n",
        bad="    if producer is not None:\n        return True\n    client: Any = producer.client\n",
        check="tests/integration/kafka/test_kafka_clients.py::"
        "test_a_discarded_producer_writes_nothing_when_the_broker_returns",
    ),
    Mutant(
        name="bidirectional marks reach the terminal",
        file="services/runtime/observe/plain_text.py",
        good='frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})',
        bad='frozenset({"Cc", "Cs", "Zl", "Zp"})',
        check="tests/unit/runtime/test_plain_text.py",
    ),
)
