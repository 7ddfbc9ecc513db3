"""The projections of a database: which exist, which one serves, which are fed.

- `migrations`       numbered steps, forward only, each safe to run again (sql/control, sql/projection)
- `registry`         the table of projections, and the views of the one that serves
- `rebuild`          folds the log from its beginning into a second schema
- `plan`             what a rebuild would read, write and take
- `load`             one partition of a rebuild
- `throttle`         makes a rebuild wait while the serving projection is behind
- `load_processes`   several partitions at once, in separate processes
- `cutover`          makes the views show another version
- `rollback`         undoes the last cutover
- `verifications`    what verifications found, and whether a cutover may rely on it
- `overview`         what operators see of the versions
- `operators`        one process at a time changes a version, and is named to the others
- `retirement`       stops feeding a version, or drops it
"""
