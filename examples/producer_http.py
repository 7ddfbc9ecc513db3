"""Send one message over HTTP, and retry under the same key until it is answered.

python examples/producer_http.py CHAT_ID TEXT [KEY]
"""

import os
import sys
import time
import uuid

import httpx

chat_id, text, *rest = sys.argv[1:]
key = rest[0] if rest else str(uuid.uuid4())  # store it with the message: a retry after a crash needs the same one
headers = {"Authorization": f"Bearer {os.environ['GAPLESS_API_TOKEN']}", "Idempotency-Key": key}

with httpx.Client(base_url=os.environ["GAPLESS_API_URL"], headers=headers, trust_env=False) as http:
    while True:
        try:
            answer = http.post(f"/v1/chats/{chat_id}/messages", json={"text": text})
            if answer.status_code in (200, 201):  # 200: an earlier try had arrived
                print("seq", answer.json()["seq"])
                break
            if answer.status_code != 202 and answer.status_code < 500:
                sys.exit(answer.json()["detail"])  # a retry would get the same answer
        except httpx.TransportError:
            pass  # the message may have arrived or not: the retry finds out
        time.sleep(0.5)
