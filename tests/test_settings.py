"""Settings: flags over variables over a file, each checked where it was set."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path

import pytest

from stream.hosts import bare, is_loopback
from stream.names import fit_name, is_name
from stream.settings import Settings, read_settings, settings_table
from stream.values import Camera
from workers.errors import SettingsError
from workers.geometry import Geometry
from workers.messages import Fill
from workers.swscale import Fit

FLAGS = [
    "--host",
    "--port",
    "--advertise",
    "--allowed-host",
    "--cors-origin",
    "--token",
    "--insecure",
    "--https",
    "--tls-cert",
    "--tls-key",
    "--ice-server",
    "--udp-ports",
    "--announce",
    "--model",
    "--device",
    "--geometry",
    "--fit",
    "--batch",
    "--max-wait-ms",
    "--fill",
    "--threads",
    "--compile",
    "--max-sessions",
    "--rtsp",
    "--broker-url",
    "--broker-port",
    "--topic-prefix",
    "--batch-telemetry",
    "--node",
]


def read(
    flags: Mapping[str, str | list[str]] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    given = {name: [it] if isinstance(it, str) else it for name, it in (flags or {}).items()}
    return read_settings(given, environ or {}, file)


def written(folder: Path, text: str) -> Path:
    path = folder / "omokage.toml"
    path.write_text(text)
    return path


def test_nothing_chosen_gives_the_defaults() -> None:
    settings = read()
    assert settings == Settings()
    assert (settings.host, settings.port, settings.model) == ("127.0.0.1", 8080, "puppet")
    assert (settings.max_sessions, settings.max_wait_ms, settings.broker_port) == (16, 8.0, 1883)
    assert (settings.batch_sizes, settings.geometry, settings.token) == (None, None, None)
    assert is_name(settings.node)


def test_the_flags_have_their_fixed_names() -> None:
    assert [it.flag for it in settings_table()] == FLAGS
    assert len(settings_table()) == len(fields(Settings))


def test_a_flag_wins_over_a_variable_and_a_variable_over_the_file(tmp_path: Path) -> None:
    file = written(tmp_path, "port = 1\nmax_sessions = 2\nthreads = 3\n")
    settings = read({"port": "10"}, {"OMOKAGE_PORT": "11", "OMOKAGE_MAX_SESSIONS": "12"}, file)
    assert (settings.port, settings.max_sessions, settings.threads) == (10, 12, 3)


def test_a_variable_names_the_file_and_a_flag_another_one(tmp_path: Path) -> None:
    file = written(tmp_path, "port = 1")
    other = tmp_path / "other.toml"
    other.write_text("port = 2")
    assert read(environ={"OMOKAGE_CONFIG": str(file)}).port == 1
    assert read(environ={"OMOKAGE_CONFIG": str(file)}, file=other).port == 2


def test_every_kind_of_value_is_read_from_variables() -> None:
    settings = read(
        environ={
            "OMOKAGE_GEOMETRY": "320x240",
            "OMOKAGE_BATCH": "1,4,16",
            "OMOKAGE_FIT": "contain",
            "OMOKAGE_FILL": "zeros",
            "OMOKAGE_COMPILE": "yes",
            "OMOKAGE_ALLOWED_HOST": "a.example B.example",
            "OMOKAGE_CORS_ORIGIN": "https://A.example:443 http://b.example:8000/",
            "OMOKAGE_RTSP": "door=rtsp://u:p@cam/1 yard=rtsp://cam/2",
            "OMOKAGE_MAX_WAIT_MS": "2.5",
            "OMOKAGE_ADVERTISE": "https://box.example/omokage/",
        }
    )
    assert settings.geometry == Geometry(320, 240)
    assert settings.batch_sizes == (1, 4, 16)
    assert (settings.fit, settings.fill, settings.compile) == (Fit.CONTAIN, Fill.ZEROS, True)
    assert settings.allowed_hosts == ("a.example", "b.example")
    assert settings.cors_origins == ("https://a.example", "http://b.example:8000")
    assert settings.cameras == (
        Camera("door", "rtsp://u:p@cam/1"),
        Camera("yard", "rtsp://cam/2"),
    )
    assert settings.max_wait_ms == 2.5
    assert settings.advertise == "https://box.example/omokage"


def test_a_file_may_use_the_types_of_toml(tmp_path: Path) -> None:
    text = """
        batch = [1, 4]
        insecure = true
        max_wait_ms = 0
        allowed_host = ["a.example", "b.example"]
        [rtsp]
        door = "rtsp://cam/1"
    """
    settings = read(file=written(tmp_path, text))
    assert settings.batch_sizes == (1, 4)
    assert (settings.insecure, settings.max_wait_ms) == (True, 0.0)
    assert settings.allowed_hosts == ("a.example", "b.example")
    assert settings.cameras == (Camera("door", "rtsp://cam/1"),)


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("port", "abc", "--port abc is no whole number"),
        ("port", "70000", "--port 70000 is out of range: pass 0 to 65535"),
        ("port", "", "--port '' is no whole number"),
        ("host", "a b", "--host a b is neither a host name nor an address"),
        ("host", "127.0.0.1:80", "without a port"),
        ("advertise", "ftp://a", "does not begin with http:// or https://"),
        ("advertise", "https://", "names no host"),
        ("advertise", "https://u:p@a/", "more than a base URL"),
        ("allowed_host", "*", "--allowed-host"),
        ("cors_origin", "https://a.example/path", "more than an origin"),
        ("cors_origin", "null", "--cors-origin null"),
        ("token", "short", "--token is too short: a token has at least 8 characters"),
        ("token", "with a space in it", "--token has a character"),
        ("device", "gpu", "--device gpu is no device: pass auto, cpu, cuda or cuda:N"),
        ("geometry", "255x255", "--geometry: geometry 255x255 does not serve: both sides"),
        ("geometry", "big", "write it as 512x512"),
        ("fit", "fill", "--fit fill is not known: pass cover or contain"),
        ("fill", "first", "--fill first is not known: pass last or zeros"),
        ("batch", "4,1", "--batch 4,1 is not ascending"),
        ("batch", "4,4", "is not ascending"),
        ("batch", "0", "below 1"),
        ("batch", "four", "is no list of batch sizes"),
        ("max_wait_ms", "-1", "out of range"),
        ("max_wait_ms", "nan", "out of range"),
        ("max_sessions", "0", "--max-sessions 0 is out of range: pass 1 to 256"),
        ("threads", "0", "--threads 0 is out of range"),
        ("rtsp", "rtsp://cam/1", "--rtsp is not of the form NAME=URL"),
        ("rtsp", "Door=rtsp://cam", "a name that is not of the form"),
        ("rtsp", "door=http://cam", "gives camera door a URL that does not begin with rtsp://"),
        ("rtsp", "door=rtsp://cam:99999/", "gives camera door a URL that cannot be read"),
        ("broker_url", "localhost:1883", "--broker-url does not begin with mqtt://"),
        ("topic_prefix", "a/#", "--topic-prefix a/# is no topic prefix"),
        ("topic_prefix", "/a", "is no topic prefix"),
        ("node", "My Box", "--node My Box is no node name"),
        ("model", " ", "--model ' ' names no model"),
        ("insecure", "perhaps", "is neither true nor false"),
    ],
)
def test_a_wrong_value_is_named_where_it_was_set(name: str, text: str, says: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read({name: text})
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)


def test_the_same_mistake_is_told_by_variable_or_by_file(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^OMOKAGE_PORT=abc is no whole number"):
        read(environ={"OMOKAGE_PORT": "abc"})
    file = written(tmp_path, 'port = "abc"')
    with pytest.raises(SettingsError, match=r"^port = abc in .*omokage\.toml is no whole number"):
        read(file=file)
    with pytest.raises(SettingsError, match=r"^allowed_host in .* wrong kind: write a list"):
        read(file=written(tmp_path, "allowed_host = [1]"))
    with pytest.raises(SettingsError, match=r"^port in .* wrong kind: write a single value"):
        read(file=written(tmp_path, "port = [1]"))


def test_an_unknown_key_is_named_with_the_nearest_that_is_known(tmp_path: Path) -> None:
    for key, near in (("max_wait", "max_wait_ms"), ("max-sessions", "max_sessions")):
        with pytest.raises(SettingsError, match=f"unknown setting {key}: did you mean {near}?"):
            read(file=written(tmp_path, f"{key} = 1"))
    with pytest.raises(SettingsError, match="unknown setting colour: `omokage serve --help`"):
        read(file=written(tmp_path, "colour = 1"))


def test_a_file_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read \\(no such file or directory\\)"):
        read(file=tmp_path / "absent.toml")
    with pytest.raises(SettingsError, match="cannot be read"):
        read(file=tmp_path)
    with pytest.raises(SettingsError, match=r"^OMOKAGE_CONFIG=/absent cannot be read"):
        read(environ={"OMOKAGE_CONFIG": "/absent"})
    with pytest.raises(SettingsError, match=r"is no TOML: .*line 1"):
        read(file=written(tmp_path, "port = = 1"))


def test_https_is_for_the_others_unless_a_host_is_named(tmp_path: Path) -> None:
    pair = {"tls_cert": "a.crt", "tls_key": "a.key"}
    for flags in ({"https": "true"}, pair):
        assert (read(flags).scheme, read(flags).host) == ("https", "0.0.0.0")
        assert read({**flags, "host": "127.0.0.1"}).host == "127.0.0.1"
        assert read(flags, {"OMOKAGE_HOST": "::1"}).host == "::1"
        assert read(flags, file=written(tmp_path, 'host = "box.example"')).host == "box.example"
    assert (read().scheme, read().host) == ("http", "127.0.0.1")
    assert read(pair).tls_key == Path("a.key")


def test_a_certificate_and_its_key_come_together() -> None:
    with pytest.raises(SettingsError, match=r"^--tls-cert a comes without --tls-key: pass both"):
        read({"tls_cert": "a"})
    with pytest.raises(SettingsError, match=r"^OMOKAGE_TLS_KEY=b comes without --tls-cert"):
        read({}, {"OMOKAGE_TLS_KEY": "b"})
    with pytest.raises(SettingsError, match=r"--tls-cert .* names no file"):
        read({"tls_cert": "", "tls_key": "b"})


def test_a_host_beyond_loopback_asks_for_a_token_or_for_insecure() -> None:
    for host in ("0.0.0.0", "::", "192.0.2.1", "box.example"):
        with pytest.raises(SettingsError, match=f"--host {host} opens the server to others"):
            read({"host": host})
        assert read({"host": host, "token": "12345678"}).host == host
        assert read({"host": host, "insecure": "true"}).host == host
    for host in ("127.0.0.1", "127.8.8.8", "::1", "[::1]", "localhost", "a.localhost"):
        assert read({"host": host}).host == host


def test_a_batch_above_the_sessions_is_told_as_each_was_set() -> None:
    with pytest.raises(SettingsError, match=r"^--batch 32 is more than --max-sessions 16: "):
        read({"batch": "32"})
    with pytest.raises(SettingsError, match=r"^OMOKAGE_BATCH=1,4 is more than --max-sessions 2: "):
        read({"max_sessions": "2"}, {"OMOKAGE_BATCH": "1,4"})
    assert read({"batch": "32", "max_sessions": "32"}).batch_sizes == (32,)


def test_cameras_have_names_of_their_own_and_a_session_each() -> None:
    with pytest.raises(SettingsError, match="two cameras a"):
        read({"rtsp": ["a=rtsp://cam/1", "a=rtsp://cam/2"]})
    with pytest.raises(SettingsError, match="2 cameras, more than --max-sessions 1"):
        read({"rtsp": ["a=rtsp://cam/1", "b=rtsp://cam/2"], "max_sessions": "1"})


def test_no_secret_is_ever_shown() -> None:
    secrets = {
        "token": "hunter2hunter2",
        "rtsp": "door=rtsp://me:hunter2@cam/1",
        "broker_url": "mqtt://me:hunter2@broker",
    }
    assert "hunter2" not in repr(read(secrets))
    for name, text in secrets.items():
        with pytest.raises(SettingsError) as refused:
            read({name: text.replace("rtsp:", "ftp:").replace("mqtt:", "ftp:") + " x"})
        assert "hunter2" not in str(refused.value)


def test_a_host_name_is_made_to_fit_a_node_name() -> None:
    assert fit_name("Box_1.lan") == "box-1-lan"
    assert fit_name("x" * 80) == "x" * 64
    assert fit_name("面影") == "node"


def test_the_host_of_a_header_is_read_without_its_port() -> None:
    assert bare("Box.Example:8080") == "box.example"
    assert bare("[::1]:8080") == "::1"
    assert bare("127.0.0.1") == "127.0.0.1"
    for malformed in ("", "a b", "a@b", "a:b", "[::1", "a/b", "a:80:80"):
        assert bare(malformed) is None
    assert not is_loopback("localhost.example")


def test_settings_load_without_torch_or_the_network() -> None:
    code = "import sys, stream.settings as s; print({'torch', 'aiohttp', 'av'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_the_network_is_chosen_by_servers_ports_and_addresses() -> None:
    settings = read(
        {
            "ice_server": [
                "stun:stun.example:3479",
                "turn:turn.example?transport=tcp,me,hunter2,x",
            ],
            "udp_ports": ["50000-50100"],
            "announce": ["198.51.100.7", "2001:DB8::7"],
        }
    )
    stun, turn = settings.ice_servers
    assert stun.link == '<stun:stun.example:3479>; rel="ice-server"'
    assert turn.link == (
        '<turn:turn.example?transport=tcp>; rel="ice-server"; username="me"; '
        'credential="hunter2,x"; credential-type="password"'
    )
    assert "hunter2" not in repr(settings) + repr(turn)
    assert settings.udp_ports is not None and len(settings.udp_ports) == 101
    assert settings.announce == ("198.51.100.7", "2001:db8::7")


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("ice_server", "http://host", "is no such server"),
        ("ice_server", "stun:host,me,hunter2", "says too much"),
        ("ice_server", "turn:host", "has no login"),
        ("ice_server", "turns:host?transport=udp,me,hunter2", "TLS over UDP"),
        ("udp_ports", "50000", "no range of ports"),
        ("udp_ports", "50100-50000", "lower end first"),
        ("udp_ports", "50000-50003", "fewer ports than --max-sessions 16"),
        ("announce", "box.example", "a name"),
    ],
)
def test_a_wrong_network_is_told_why_and_shows_no_login(name: str, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as error:
        read({name: [text]})
    assert "hunter2" not in str(error.value)
