"""The sequencer processes know each other by heartbeats on a topic. All of it is a hint: the log decides who writes.

- `heartbeat`          one heartbeat's bytes
- `failure_detector`   which processes are alive and who should take a partition over. Pure
- `exchange`           sends ours, receives everybody's
- `handover`           what this process says about its writers, and how it hands them over before it ends
"""
