"""Kafka clients for the protocol's needs: a thin layer over aiokafka, with a deadline on everything.

Reading:

- `reader`          one partition from an offset: `assign` and `seek`, no group, no automatic reset
- `partitions_reader` many partitions through one client
- `fetched`         what was fetched of a partition and not read yet
- `batches`         record batches (format v2): taken apart for the reader, put together for the appender
- `_framing`        splits batches into records and writes outcomes into them, compiled
- `plain_records`   splits batches without compiled code
- `decompression`   bounded decompression of a batch

Writing:

- `appender`   one idempotent producer for one partition: appends a whole record batch and returns its base offset
- `producer`   appends single records to many partitions (ingest, replies); recovers from any error
- `discard`    drops a producer whose last append is unknown

Supporting them:

- `connection`       addresses, encryption and identity, in one value
- `group`            which partitions the consumer group assigns to this process; only a hint
- `topics`           creates and describes topics; the id that distinguishes a topic from a later one of the same name
- `topic_reader`     describes topics through one open client
- `topic_metadata`   metadata version 12, which has topic ids
- `topic_watch`      checks the topics periodically while a process runs
- `broker_time`      reads a broker's clock
- `probe`            checks whether the brokers that lead our partitions answer
- `acls`             ACLs, and how they are granted
- `refusals`         why Kafka refuses us, in one sentence
- `deadline`         a deadline around any call of aiokafka
- `errors`           the exceptions that all of them raise

aiokafka can hang: in `start()` and `stop()` if a broker vanished, and in a send of an idempotent producer whose broker
was killed and came back. So nothing here awaits it without a deadline, and a producer that raised any error is
discarded and never used again.
"""
