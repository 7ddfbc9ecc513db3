"""Settings: read from GAPLESS_* variables, frozen, and refused in one sentence that names the variable."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from pydantic import Field, SecretStr, ValidationError

from services.runtime.settings import (
    AuthSettings,
    HttpSettings,
    KafkaSettings,
    LogSettings,
    PostgresSettings,
    Settings,
    SettingsError,
    load_settings,
    settings_from,
)


class ExampleSettings(Settings):
    model_config = settings_from("GAPLESS_EXAMPLE_")
    kafka: KafkaSettings = Field(default_factory=KafkaSettings)
    http: HttpSettings = Field(default_factory=HttpSettings)
    logs: LogSettings = Field(default_factory=LogSettings)
    needed_s: float


@pytest.fixture(autouse=True)
def _no_settings_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("GAPLESS_")]:
        monkeypatch.delenv(name)


def test_each_concern_reads_its_own_flat_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPLESS_KAFKA_BOOTSTRAP", "broker:9")
    monkeypatch.setenv("GAPLESS_KAFKA_PARTITIONS", "64")
    monkeypatch.setenv("GAPLESS_CORS_ORIGINS", "https://a.example, http://localhost:3000")
    monkeypatch.setenv("GAPLESS_OPS_PORT", "9100")
    monkeypatch.setenv("GAPLESS_LOG_LEVEL", "DEBUG")
    monkeypatch.setenv("GAPLESS_EXAMPLE_NEEDED_S", "2.5")
    settings = load_settings(ExampleSettings)
    assert settings.kafka.bootstrap_servers == "broker:9"
    assert settings.kafka.partitions == 64
    assert settings.http.cors_origins == ("https://a.example", "http://localhost:3000")
    assert settings.http.ops_port == 9100
    assert settings.logs.level == "debug"
    assert settings.needed_s == 2.5


def test_values_can_be_given_by_field_name_and_win_over_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPLESS_KAFKA_BOOTSTRAP", "broker:9")
    assert KafkaSettings(bootstrap_servers="mine:1").bootstrap_servers == "mine:1"


def test_variables_without_our_prefix_are_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "1")
    monkeypatch.setenv("BOOTSTRAP_SERVERS", "other:1")
    assert HttpSettings().port == 8080
    assert KafkaSettings().bootstrap_servers == "127.0.0.1:9092"


def test_settings_are_frozen() -> None:
    with pytest.raises(ValidationError):
        KafkaSettings().partitions = 9  # type: ignore[misc]


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("GAPLESS_KAFKA_PARTITIONS", "many"),
        ("GAPLESS_KAFKA_PARTITIONS", "0"),
        ("GAPLESS_KAFKA_TOPIC_PREFIX", "a b"),
        ("GAPLESS_HTTP_PORT", "70000"),
        ("GAPLESS_OPS_PORT", "-1"),
        ("GAPLESS_CORS_ORIGINS", "https://a.example/path"),
        ("GAPLESS_LOG_FORMAT", "xml"),
        ("GAPLESS_EXAMPLE_NEEDED_S", "soon"),
    ],
)
def test_a_wrong_value_is_refused_in_one_sentence_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv("GAPLESS_EXAMPLE_NEEDED_S", "1")
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as refusal:
        load_settings(ExampleSettings)
    sentence = str(refusal.value)
    assert sentence.startswith(f"{variable} is wrong: ")
    assert sentence.endswith(".")
    assert "\n" not in sentence


def test_a_missing_value_without_default_is_named() -> None:
    with pytest.raises(SettingsError, match=r"^GAPLESS_EXAMPLE_NEEDED_S is not set, and there is no default\.$"):
        load_settings(ExampleSettings)


def test_a_password_never_appears_in_a_refusal_or_a_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPLESS_JWT_SECRET", "hunter2")
    with pytest.raises(SettingsError) as refusal:
        load_settings(AuthSettings)
    assert "GAPLESS_JWT_SECRET is too short" in str(refusal.value)
    assert "hunter2" not in str(refusal.value)
    assert "hunter2" not in repr(PostgresSettings(dsn=SecretStr("postgresql://u:hunter2@h/d")))


def test_a_secret_and_a_jwks_url_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPLESS_JWT_SECRET", "s" * 32)
    monkeypatch.setenv("GAPLESS_JWT_JWKS_URL", "https://issuer.example/jwks")
    with pytest.raises(SettingsError, match="both set"):
        load_settings(AuthSettings)


def test_neither_a_secret_nor_a_jwks_url_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"GAPLESS_JWT_SECRET nor GAPLESS_JWT_JWKS_URL"):
        load_settings(AuthSettings)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "http://issuer.example/jwks",
        "http://localhost.example/jwks",
        "http://127.0.0.1.example/jwks",
        "http://127.0.0.1@issuer.example/jwks",
        "http://10.0.0.1/jwks",
        "http://[fe80::1]/jwks",
    ],
)
def test_keys_come_over_https_unless_from_this_host(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("GAPLESS_JWT_JWKS_URL", url)
    monkeypatch.setenv("GAPLESS_JWT_ISSUER", "*")
    monkeypatch.setenv("GAPLESS_JWT_AUDIENCE", "*")
    with pytest.raises(SettingsError, match="GAPLESS_JWT_JWKS_URL is wrong"):
        load_settings(AuthSettings)


@pytest.mark.parametrize(
    "url",
    [
        "https://issuer.example/jwks",
        "http://localhost:8080/jwks",
        "http://issuer.localhost/jwks",
        "http://127.0.0.2/jwks",
        "http://[::1]:8080/jwks",
    ],
)
def test_keys_of_this_host_may_come_without_tls(url: str) -> None:
    assert AuthSettings(jwks_url=url, issuer="*", audience="*").jwks_url == url


def test_published_keys_need_an_issuer_and_an_audience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPLESS_JWT_JWKS_URL", "https://issuer.example/jwks")
    with pytest.raises(SettingsError, match=r"without GAPLESS_JWT_ISSUER and GAPLESS_JWT_AUDIENCE: .*set \*"):
        load_settings(AuthSettings)
    monkeypatch.setenv("GAPLESS_JWT_ISSUER", "https://issuer.example")
    with pytest.raises(SettingsError, match=r"without GAPLESS_JWT_AUDIENCE: "):
        load_settings(AuthSettings)
    monkeypatch.setenv("GAPLESS_JWT_AUDIENCE", "*")
    settings = load_settings(AuthSettings)
    assert (settings.expected_issuer, settings.expected_audience) == ("https://issuer.example", None)


def test_the_kind_of_key_decides_the_algorithms() -> None:
    assert AuthSettings(secret=SecretStr("s" * 32)).algorithms == ("HS256",)
    assert AuthSettings(jwks_url="https://issuer.example/jwks", issuer="*", audience="*").algorithms == (
        "RS256",
        "ES256",
        "EdDSA",
    )


def test_a_rule_over_two_fields_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GAPLESS_POSTGRES_POOL_MIN_SIZE", "20")
    with pytest.raises(SettingsError, match=r"GAPLESS_POSTGRES_POOL_MIN_SIZE .* GAPLESS_POSTGRES_POOL_MAX_SIZE"):
        load_settings(PostgresSettings)


SASL = {"security_protocol": "SASL_SSL", "sasl_username": "ingest", "sasl_password": "p4ssw0rd-of-ingest"}


def test_a_secret_can_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "dsn").write_text("postgresql://reader:secret@db/gapless\n")
    monkeypatch.setenv("GAPLESS_POSTGRES_DSN_FILE", str(tmp_path / "dsn"))
    assert load_settings(PostgresSettings).dsn.get_secret_value() == "postgresql://reader:secret@db/gapless"


@pytest.mark.parametrize(
    ("content", "also", "sentence"),
    [
        (
            None,
            False,
            "GAPLESS_KAFKA_SASL_PASSWORD_FILE names {path}, which cannot be read (No such file or directory).",
        ),
        ("\n", False, "GAPLESS_KAFKA_SASL_PASSWORD_FILE names {path}, which is empty."),
        ("x", True, "GAPLESS_KAFKA_SASL_PASSWORD and GAPLESS_KAFKA_SASL_PASSWORD_FILE are both set: keep one of them."),
    ],
)
def test_a_file_of_a_secret_that_does_not_do_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None, also: bool, sentence: str
) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("GAPLESS_KAFKA_SASL_PASSWORD_FILE", str(path))
    if also:
        monkeypatch.setenv("GAPLESS_KAFKA_SASL_PASSWORD", "y")
    with pytest.raises(SettingsError) as refused:
        load_settings(KafkaSettings)
    assert str(refused.value).startswith(sentence.format(path=path))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"security_protocol": "SASL_SSL"}, "GAPLESS_KAFKA_SASL_PASSWORD is not set, and SASL_SSL with SCRAM-SHA-512"),
        ({"security_protocol": "SASL_SSL", "sasl_mechanism": "OAUTHBEARER"}, "GAPLESS_KAFKA_SASL_OAUTH_TOKEN_FILE is"),
        ({**SASL, "security_protocol": "SSL"}, "GAPLESS_KAFKA_SASL_PASSWORD is set, but would not be used"),
        (
            {**SASL, "sasl_mechanism": "OAUTHBEARER", "sasl_oauth_token_file": "/t"},
            "would not be used: GAPLESS_KAFKA_SASL",
        ),
        ({"tls_ca_file": "/ca.pem"}, "GAPLESS_KAFKA_TLS_CA_FILE is set, but would not be used"),
        ({"security_protocol": "SSL", "tls_key_file": "/k.pem"}, "GAPLESS_KAFKA_TLS_KEY_FILE is set without"),
        ({"security_protocol": "SSL", "tls_ca_file": "/no.pem"}, "/no.pem cannot be read (No such file or directory)"),
    ],
)
def test_half_a_configuration_of_kafkas_security_is_refused(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        KafkaSettings.model_validate(given)
    assert sentence in str(refused.value)


def test_a_ca_file_without_a_certificate_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("hello")
    with pytest.raises(ValidationError, match="holds no certificate in PEM"):
        KafkaSettings.model_validate({"security_protocol": "SSL", "tls_ca_file": tmp_path / "ca.pem"})


def test_passwords_are_in_no_representation() -> None:
    settings = KafkaSettings.model_validate(SASL)
    assert settings.connection.security_options()["sasl_plain_password"] == SASL["sasl_password"]
    for shown in (repr(settings), str(settings), repr(settings.connection), settings.model_dump_json()):
        assert SASL["sasl_password"] not in shown
