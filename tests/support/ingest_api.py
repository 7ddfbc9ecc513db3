"""Ingest behind its HTTP server, in this process, on the topics of a `Scene`."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from services.ingest.app import IngestService, create_app
from services.ingest.settings import IngestProcessSettings, IngestSettings
from services.runtime.access.auth import mint_token
from services.runtime.serving.server import HttpServer
from services.runtime.settings import AuthSettings, HttpSettings, KafkaSettings
from tests.support.sequencing import ANNA, Scene

SECRET = "a secret of at least thirty-two bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestApi:
    url: str
    service: IngestService
    client: httpx.AsyncClient

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        user: str = ANNA,
        key: str | None = None,
        scopes: tuple[str, ...] = (),
        prefer: str | None = None,
        if_match: str | None = None,
    ) -> httpx.Response:
        headers = {"Authorization": f"Bearer {mint_token(SECRET, user, scopes=scopes)}"}
        if if_match is not None:
            headers["If-Match"] = if_match
        if key is not None:
            headers["Idempotency-Key"] = key
        if prefer is not None:
            headers["Prefer"] = prefer
        content: dict[str, Any] = {"content": body} if isinstance(body, bytes) else {"json": body}
        return await self.client.request(method, path, headers=headers, **({} if body is None else content))

    async def create_group(self, name: str, *members: str) -> str:
        """Create a group and return its chat_id."""
        body = {"kind": "group", "name": name, "members": list(members)}
        response = await self.call("POST", "/v1/chats", body, key=f"create-{uuid.uuid4()}", prefer="wait=20")
        assert response.status_code == 201, response.text
        chat_id = response.json()["chat_id"]
        assert isinstance(chat_id, str)
        return chat_id

    async def send(
        self, chat_id: str, text: str, *, key: str, user: str = ANNA, prefer: str | None = "wait=20"
    ) -> httpx.Response:
        return await self.call(
            "POST", f"/v1/chats/{chat_id}/messages", {"text": text}, user=user, key=key, prefer=prefer
        )

    async def ready(self) -> tuple[int, list[str]]:
        response = await self.client.get("/readyz")
        return response.status_code, response.json()["reasons"]


def kafka_settings(scene: Scene) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=scene.kafka,
        partitions=scene.partitions,
        reply_partitions=scene.reply_partitions,
        topic_prefix=scene.names.commands.removesuffix("chat.commands"),
    )


@asynccontextmanager
async def ingest_on(kafka: KafkaSettings, **settings: Any) -> AsyncIterator[IngestApi]:
    """Start ingest before its server, as `services.ingest.app.run` does, and stop it after the server."""
    app, service, _ = create_app(
        IngestProcessSettings(
            ingest=IngestSettings(kafka=kafka, **settings), auth=AuthSettings(secret=SECRET), http=HttpSettings()
        )
    )
    server = HttpServer(app, host="127.0.0.1", port=0)
    try:
        await service.start()
        await server.start()
        async with httpx.AsyncClient(base_url=server.url, timeout=60.0, trust_env=False, verify=False) as client:
            yield IngestApi(url=server.url, service=service, client=client)
    finally:
        await server.stop(timeout_s=5.0)
        await service.stop()
