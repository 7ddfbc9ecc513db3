"""Kafka as the protocol needs it: thin, with a deadline on everything, over aiokafka.

Reading:

- `reader`          one partition from an offset: `assign` and `seek`, no group, no automatic reset
- `batches`         record batches (format v2): taken apart for the reader, put together for the appender
- `plain_records`   the records of a batch without compiled code
- `decompression`   bounded decompression of a batch

Writing:

- `appender`   one idempotent producer for one partition: a record batch whole and its base offset, or "unknown"
- `producer`   many partitions, single records (ingest, replies); renews itself after any error
- `discard`    how to drop a producer whose last append is unknown

Around them:

- `connection`       addresses, encryption and identity, in one value
- `group`            which partitions are assigned to this process: a hint and no more
- `topics`           create and describe; the id that tells a topic from its successor of the same name
- `topic_reader`     describes topics through one open client
- `topic_metadata`   metadata version 12, which has topic ids
- `topic_watch`      checks the topics again while a process runs
- `broker_time`      a broker's clock
- `probe`            whether the brokers that lead our partitions answer
- `acls`             one ACL, and how it is granted
- `refusals`         why Kafka refuses us, in one sentence
- `deadline`         a deadline around anything aiokafka does
- `errors`           what all of them raise

aiokafka can hang: `start()` and `stop()` on a broker that vanished, and a send on an idempotent producer whose broker
was killed and came back. So nothing here awaits it without a deadline, and a producer that raised any error is thrown
away and never used again.
"""
