from __future__ import annotations

import pytest

from app.settings import InvalidSettingError, Settings, load_settings, unknown_variables


def test_the_defaults_serve_the_packaged_checkpoint_on_this_machine_alone() -> None:
    settings = load_settings()
    assert (settings.host, settings.port) == ("127.0.0.1", 8000)
    assert list(settings.model_sources()) == [("mobilenet_v1_1.0_224", "mobilenet_v1_1.0_224")]


def test_a_variable_sets_and_what_is_given_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOBILENET_PORT", "9000")
    monkeypatch.setenv("MOBILENET_QUEUE_MS", "250")
    settings = load_settings(port="9001", queue_ms=None)
    assert (settings.port, settings.queue_ms) == (9001, 250)


def test_a_model_can_have_a_name() -> None:
    given = load_settings(models="pets=/weights/pets_v2")
    assert list(given.model_sources()) == [("pets", "/weights/pets_v2")]
    plain = load_settings(models="/weights/pets_v2/")
    assert list(plain.model_sources()) == [("pets_v2", "/weights/pets_v2/")]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("port", "-1"),
        ("port", "65536"),
        ("port", "http"),
        ("host", ""),
        ("models", ""),
        ("engine", "tensorflow"),
        ("device", "tpu"),
        ("threads", "0"),
        ("threads", "many"),
        ("max_batch_size", "0"),
        ("queue_ms", "0"),
        ("request_timeout_s", "301"),
        ("request_timeout_s", "nan"),
        ("max_body_mib", "-1"),
        ("cache_mib", "-1"),
        ("max_pixels_mp", "1e9"),
        ("max_side", "0"),
        ("jpeg_scaled_decode", "maybe"),
        ("body_timeout_s", "inf"),
        ("header_timeout_s", "0"),
        ("write_timeout_s", "-1"),
        ("keep_alive_s", "0"),
        ("max_connections", "0"),
        ("drain_s", "-1"),
        ("shutdown_timeout_s", "0"),
        ("log_level", "verbose"),
    ],
)
def test_a_bad_setting_is_refused_in_one_line_that_names_it(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"MOBILENET_{name.upper()}", value)
    with pytest.raises(InvalidSettingError) as refused:
        load_settings()
    text = str(refused.value)
    assert f"MOBILENET_{name.upper()}" in text
    assert "\n" not in text


def test_every_way_to_be_right_is_named() -> None:
    with pytest.raises(InvalidSettingError, match=r"'auto' or .*greater than or equal to 1"):
        load_settings(threads="0")


def test_draining_has_to_end_before_shutting_down() -> None:
    with pytest.raises(InvalidSettingError, match="MOBILENET_SHUTDOWN_TIMEOUT_S"):
        load_settings(drain_s="20", shutdown_timeout_s="5")


def test_unknown_variables_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert unknown_variables() == []
    monkeypatch.setenv("MOBILENET_THREDS", "2")
    assert unknown_variables() == ["MOBILENET_THREDS"]


def test_every_setting_is_described_and_cannot_be_changed() -> None:
    assert all(field.description for field in Settings.model_fields.values())
    with pytest.raises(ValueError, match="frozen"):
        Settings().port = 1  # type: ignore[misc]  # that it is refused is the point
