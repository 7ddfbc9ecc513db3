"""Copies a log out of a cluster and into another: `gapless log export`, `import` and `restore-test`.

An archive is a folder, or a prefix of an object store: segments, each a compressed run of records, and a manifest that
names all of them with their digests. The manifest is written last, so an archive always is a whole one: what a killed
export has copied is found by the next one. Offsets are kept: an outcome names its command by offset.

Pure:

- `entries`    a record as it is kept, and a batch that cannot be decoded
- `segments`   entries packed into a segment, with its digests, and taken out again
- `manifest`   what an archive holds, of which log, and up to where
- `plan`       entries cut into the record batches that an import appends

With I/O:

- `archive`        segments and manifests in a folder or an object store
- `reading`        a partition's batches as entries
- `export`         copies what is new, to ends that were asked first
- `checks`         reads a whole archive against its manifest, before anything is written
- `import_`        writes an archive into empty topics, or goes on with its own import
- `writing`        appends to one partition at known offsets
- `restore_test`   imports an archive into servers of its own, and verifies log and tables there

A crash of an export or import loses nothing: run it again. Nothing here is used by the services.
"""
