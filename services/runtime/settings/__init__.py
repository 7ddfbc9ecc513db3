"""The settings of a process, read once from `GAPLESS_*` variables: one frozen class per concern.

A service composes the classes it needs in its own settings module and reads them with `load_settings`:

    class IngestSettings(Settings):
        model_config = settings_from("GAPLESS_INGEST_")
        kafka: KafkaSettings = Field(default_factory=KafkaSettings)
        reply_timeout_s: float = 2.0        # GAPLESS_INGEST_REPLY_TIMEOUT_S

    settings = load_settings(IngestSettings)

Variable names are flat: the prefix of the class and the field's name in capitals, unless the field has an alias. Tests
pass values by field name: `KafkaSettings(bootstrap_servers="127.0.0.1:1234")`.

A secret may also be in a file: `GAPLESS_KAFKA_SASL_PASSWORD_FILE=/run/secrets/kafka` has the same effect as its content
in `GAPLESS_KAFKA_SASL_PASSWORD`, but keeps the secret out of the environment.

- `base`       what all settings share: variables, secrets in files, the sentence for a wrong one
- `kafka`      Kafka and its topics
- `postgres`   the read model
- `auth`       tokens
- `http`       ports, certificates and limits
- `process`    logs, and the time to shut down
"""

from __future__ import annotations

from services.runtime.settings.auth import (
    MIN_SECRET_BYTES,
    PUBLIC_KEY_ALGORITHMS,
    SHARED_SECRET_ALGORITHMS,
    AuthSettings,
    is_safe_key_url,
)
from services.runtime.settings.base import (
    PositiveSeconds,
    Settings,
    SettingsError,
    load_settings,
    settings_from,
    variable_name,
    variables_of,
)
from services.runtime.settings.http import HttpSettings
from services.runtime.settings.kafka import KafkaSettings
from services.runtime.settings.postgres import PostgresSettings
from services.runtime.settings.process import LogSettings, ProcessSettings

__all__ = [
    "MIN_SECRET_BYTES",
    "PUBLIC_KEY_ALGORITHMS",
    "SHARED_SECRET_ALGORITHMS",
    "AuthSettings",
    "HttpSettings",
    "KafkaSettings",
    "LogSettings",
    "PositiveSeconds",
    "PostgresSettings",
    "ProcessSettings",
    "Settings",
    "SettingsError",
    "is_safe_key_url",
    "load_settings",
    "settings_from",
    "variable_name",
    "variables_of",
]
