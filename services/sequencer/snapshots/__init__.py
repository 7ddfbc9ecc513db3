"""Copies of a partition's state in an object store. A missing or damaged snapshot costs time, never correctness.

- `manifest`       what a snapshot says about itself, when it is unusable, which old ones may be deleted. Pure
- `object_store`   a folder, S3, Google Cloud Storage or Azure, by URL
- `take`           uploads the states that this process serves, in the background
- `restore`        finds, fetches and verifies one while the fold is far behind
"""
