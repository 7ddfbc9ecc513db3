"""The benchmarks, one per file: `gapless bench <name>`.

- `sequencer`, `stages`     commands per second; where a command's time goes
- `ingest`                  sends over HTTP
- `projector`               live and rebuild
- `history`, `unread`       reads over HTTP
- `sync`                    what changed in a user's chats, over HTTP
- `reactions`               pages of messages with many reactions
- `search`                  words of messages over HTTP
- `receipts`                one chat of ten thousand members
- `live`                    end to end on an idle system
- `live_fanout`             a message to a thousand readers, readers who come back, idle streams
- `recovery`, `snapshot`    a sequencer that starts on a long log
- `takeover`, `standby`     from a kill to the next outcome; what standbys cost
- `depth`                   ten million messages in a partition
- `verify`                  how long the verifiers take
"""
