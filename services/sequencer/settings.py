"""The sequencer's settings: `GAPLESS_SEQUENCER_*`, and those it shares."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from services.runtime.settings import HttpSettings, KafkaSettings, LogSettings, PositiveSeconds, Settings, settings_from


class SequencerSettings(Settings):
    """What one sequencer process needs to know."""

    model_config = settings_from("GAPLESS_SEQUENCER_")

    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    logs: LogSettings = Field(default_factory=LogSettings)

    state_dir: Path = Path(".gapless/sequencer")
    """Where the folded states live, in a slot per process. Disposable: the log has it all."""
    append_timeout_s: PositiveSeconds = 5.0
    """Deadline of one append; a miss is unknown and ends the term."""
    keep_commands_s: PositiveSeconds = 7 * 24 * 3600.0
    """Decided commands younger than this are not trimmed: command status and forensics need them."""
    standby: int = Field(default=1, ge=0, le=100)
    """Processes that stand by for each partition, besides the one that serves it. 0: none, in this process and by its
    word; takeovers then wait for the group."""
    heartbeat_s: float = Field(default=0.15, ge=0.05, le=2.0)
    """Between two heartbeats. Five of them without a sign of a process make it silent."""
    trim_every_s: PositiveSeconds = 600.0
    max_clock_skew_s: PositiveSeconds = 300.0
    """How far this machine's clock may be from a broker's; beyond it the process does not serve."""
    snapshots: str | None = None
    """URL of the store that snapshots of the states are put into and installed from; none: no snapshots."""
    snapshot_every: int = Field(default=250_000, ge=1)
    """Records of its log from one snapshot of a partition to the next."""
    snapshot_every_s: PositiveSeconds = 900.0
    """Or this long, where there was any outcome."""
    snapshot_ahead: int = Field(default=200_000, ge=1)
    """A snapshot is installed where it is this many records further than the state that is there: folding as many
    takes about as long."""
