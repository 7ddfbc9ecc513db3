"""Kafka as the protocol needs it: thin, with a deadline on everything, over aiokafka.

- `reader`    one partition, from an offset: `assign` and `seek`, no group, nothing reset behind our back
- `appender`  one idempotent producer for one partition: a record batch whole, its base offset, or "unknown"
- `producer`  many partitions, single records (ingest, replies); renews itself after any error
- `group`     who should serve which partition: a hint and no more
- `topics`    create, describe, check; the id that tells a topic from its successor of the same name
- `discard`   how to be rid of a producer whose last append is unknown
- `errors`    what all of them raise

aiokafka can hang: `start()` and `stop()` on a broker that vanished, and a send on an idempotent producer whose
broker was killed and came back. So nothing here awaits it without a deadline, and a producer that showed any
error is thrown away, never asked again.
"""
