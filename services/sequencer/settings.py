"""The sequencer's settings: `GAPLESS_SEQUENCER_*`, and those it shares."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.runtime.settings import HttpSettings, KafkaSettings, LogSettings, PositiveSeconds, Settings, settings_from


class SequencerSettings(Settings):
    """Settings of one sequencer process."""

    model_config = settings_from("GAPLESS_SEQUENCER_")

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    logs: LogSettings = Field(default_factory=LogSettings)

    state_dir: Path = Path(".gapless/sequencer")
    """Folder of the folded states, with a slot per process. Disposable: the log has everything."""
    append_timeout_s: PositiveSeconds = 5.0
    """Deadline of one append; if it is missed, the result is unknown and the term ends."""
    keep_commands_s: PositiveSeconds = 7 * 24 * 3600.0
    """Decided commands younger than this are not trimmed: command status and forensics need them."""
    standby: int = Field(default=1, ge=0, le=100)
    """Processes that stand by for each partition, besides the one that serves it. 0: none; takeovers then wait for the
    group."""
    heartbeat_s: float = Field(default=0.15, ge=0.05, le=2.0)
    """Interval of heartbeats. A peer is suspected after five of our own without one of its."""
    trim_every_s: PositiveSeconds = 600.0
    max_clock_skew_s: PositiveSeconds = 300.0
    """Maximum difference between this machine's clock and a broker's; beyond it the process does not serve."""
    snapshots: str | None = None
    """URL of the object store of snapshots; without one, there are no snapshots."""
    snapshot_every: int = Field(default=250_000, ge=1)
    """Records of the log between two snapshots of a partition."""
    snapshot_every_s: PositiveSeconds = 900.0
    """Maximum time between two snapshots if there was any outcome."""
    snapshot_ahead: int = Field(default=200_000, ge=1)
    """A snapshot is installed if it is this many records ahead of the state: folding as many takes about as long."""
