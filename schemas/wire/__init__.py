"""The bytes of records: commands, outcomes and replies to and from what Kafka stores.

- `encoding`   commands and outcomes to and from key, headers and value (CloudEvents 1.0, binary mode)
- `records`    the same in batches: `_scan` if compiled code is used, otherwise `encoding`; equal results
- `extensions` whether compiled code is used: the one place that knows
- `_scan`      the compiled reader of headers; returns None for every record that is not in our canonical encoding
- `_varints`   Kafka's variable-length numbers, for `_scan` and for the compiled code that splits and writes batches
- `replies`    what the writer tells a waiting ingest on `chat.replies`

Pure. A record that cannot be read is a value (`Undecodable`), not an exception: it keeps its offset, and the reader
decides what it means.
"""
