"""The command line: `gapless …`. Each file declares one group of commands and prints the results of other rooms.

- `main`         the root command and its exit codes
- `terminal`     shared parts: output, progress, errors as one sentence and an exit code
- `variables`    warns of `GAPLESS_*` variables that nothing reads
- `services`     `gapless ingest`, `sequencer`, `projector`, `query`, `api`
- `stack`        `gapless up`, `down`
- `demo`         `gapless demo`
- `env`          `gapless env`
- `chat`         `gapless chat …`
- `chat_lines`   the lines of `gapless chat follow`
- `topics`       `gapless topics …`
- `rights`       `gapless topics acls`, `projection roles`
- `log`          `gapless log …`
- `rejected`     `gapless log rejected`
- `missing_commands` `gapless log skip-missing-commands`
- `since`        `--since` of several commands
- `archives`     `gapless log export`, `import`, `restore-test`
- `projection`   `gapless projection …`
- `cutover`      `gapless projection cutover`, `rollback`
- `retirement`   `gapless projection stop-feeding`, `drop`
- `lag`          `gapless lag`
- `show`         `gapless show …`
- `status`       `gapless status`
- `status_lines` what `gapless status` prints
- `top`          `gapless top`
- `top_view`     what `gapless top` shows
- `show_lines`   what `gapless show` prints
- `bench`        `gapless bench …`
"""
