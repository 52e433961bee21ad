"""What the user chose, as one value: flags over OMOKAGE_* variables over a TOML file."""

from __future__ import annotations

import difflib
import socket
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal

from stream import values
from stream.hosts import is_loopback
from stream.names import fit_name
from stream.network import IceServer, Ports
from stream.values import Camera
from workers.errors import SettingsError
from workers.geometry import Geometry
from workers.messages import Fill
from workers.swscale import Fit

VARIABLES = "OMOKAGE_"
CONFIG_VARIABLE = "OMOKAGE_CONFIG"
EVERYWHERE = "0.0.0.0"


class Group(Enum):
    """The headings of `--help`."""

    DOORS = "Doors"
    MODEL = "Model and device"
    SESSIONS = "Sessions"
    TELEMETRY = "Telemetry"


@dataclass(frozen=True, slots=True)
class Setting:
    """All that flags, variables, file keys and `--help` need to know of one field."""

    field: str
    name: str  # as the file's key; the flag has dashes, the variable is in capitals
    group: Group
    parse: Callable[[str], object]
    metavar: str | None  # None: a switch
    help: str
    default: str  # in words, "" where there is nothing to say
    many: bool
    secret: bool

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return VARIABLES + self.name.upper()


def _about(
    group: Group,
    parse: Callable[[str], object],
    metavar: str | None,
    help: str,
    *,
    name: str = "",
    said: str | None = None,
    many: bool = False,
    secret: bool = False,
) -> dict[str, object]:
    """What `settings_table` reads off a field beside its default."""
    return {
        "name": name,
        "group": group,
        "parse": parse,
        "metavar": metavar,
        "help": help,
        "said": said,
        "many": many,
        "secret": secret,
    }


def _this_machine() -> str:
    return fit_name(socket.gethostname())


@dataclass(frozen=True, slots=True)
class Settings:
    """Every choice, checked. `read_settings` makes it from what a user wrote."""

    host: str = field(
        default="127.0.0.1",
        metadata=_about(
            Group.DOORS,
            values.host,
            "ADDRESS",
            "Listen here. Beyond loopback this asks for --token, --https or --insecure.",
            said="127.0.0.1, or 0.0.0.0 with --https",
        ),
    )
    port: int = field(
        default=8080,
        metadata=_about(
            Group.DOORS,
            values.whole(0, 65535, ", 0 being any free one"),
            "PORT",
            "Listen on this port; 0 takes any free one.",
        ),
    )
    advertise: str | None = field(
        default=None,
        metadata=_about(
            Group.DOORS,
            values.advertised,
            "URL",
            "The base of every link that is given out, as behind a proxy.",
        ),
    )
    allowed_hosts: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            Group.DOORS,
            values.allowed_host,
            "NAME",
            "Also answer to this host name (repeatable).",
            name="allowed_host",
            many=True,
        ),
    )
    cors_origins: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            Group.DOORS,
            values.origin,
            "ORIGIN|*",
            "Let pages of this origin use the API (repeatable); * lets all.",
            name="cors_origin",
            many=True,
        ),
    )
    token: str | None = field(
        default=None,
        repr=False,
        metadata=_about(
            Group.DOORS,
            values.token,
            "TOKEN",
            "Ask for this bearer token. OMOKAGE_TOKEN keeps it out of the list of processes.",
            secret=True,
        ),
    )
    insecure: bool = field(
        default=False,
        metadata=_about(
            Group.DOORS,
            values.yes_or_no,
            None,
            "Listen beyond loopback without a token: whoever reaches the port may use it.",
        ),
    )
    https: bool = field(
        default=False,
        metadata=_about(
            Group.DOORS,
            values.yes_or_no,
            None,
            "Serve HTTPS, so that other machines' browsers give their camera: with a certificate "
            "made at first start, and with a token made at each where none is given.",
        ),
    )
    tls_cert: Path | None = field(
        default=None,
        metadata=_about(
            Group.DOORS,
            values.file,
            "FILE",
            "Serve HTTPS with this certificate (PEM, with those between it and its root).",
        ),
    )
    tls_key: Path | None = field(
        default=None,
        metadata=_about(
            Group.DOORS, values.file, "FILE", "The key of --tls-cert (PEM, without a password)."
        ),
    )
    ice_servers: tuple[IceServer, ...] = field(
        default=(),
        repr=False,
        metadata=_about(
            Group.DOORS,
            values.ice_server,
            "URL[,USER,CREDENTIAL]",
            "Use this STUN or TURN server, as in stun:host or turn:host,user,credential, and tell "
            "it to clients, with its login (repeatable).",
            name="ice_server",
            many=True,
            secret=True,
        ),
    )
    udp_ports: Ports | None = field(
        default=None,
        metadata=_about(
            Group.DOORS,
            values.ports,
            "LOW-HIGH",
            "Take the media's UDP ports from this range: one a session, and one a viewer.",
            said="any free one",
        ),
    )
    announce: tuple[str, ...] = field(
        default=(),
        metadata=_about(
            Group.DOORS,
            values.reachable,
            "ADDRESS",
            "Tell peers that this address, too, leads to the media's ports, as behind a NAT "
            "that maps them one to one (repeatable).",
            many=True,
        ),
    )
    model: str = field(
        default="puppet",
        metadata=_about(
            Group.MODEL,
            values.model,
            "MODEL",
            "puppet, toon, mirror, package.module:factory, or a torch.export file (.pt2).",
        ),
    )
    device: str = field(
        default="auto",
        metadata=_about(
            Group.MODEL,
            values.device,
            "DEVICE",
            "auto, cpu, cuda or cuda:N; auto takes CUDA where it is.",
        ),
    )
    geometry: Geometry | None = field(
        default=None,
        metadata=_about(
            Group.MODEL,
            values.geometry,
            "WxH",
            "Run at this size.",
            said="the model's own, else 512x512 on CUDA, 256x256 on a CPU",
        ),
    )
    fit: Fit = field(
        default=Fit.COVER,
        metadata=_about(
            Group.MODEL,
            values.one_of(Fit),
            "cover|contain",
            "Cut a picture of another shape, or put bars around it.",
        ),
    )
    batch_sizes: tuple[int, ...] | None = field(
        default=None,
        metadata=_about(
            Group.MODEL,
            values.batch_sizes,
            "N[,N...]",
            "Run batches of these sizes, all warmed up at start.",
            name="batch",
            said="16 on CUDA, 1 on a CPU",
        ),
    )
    max_wait_ms: float = field(
        default=8.0,
        metadata=_about(
            Group.MODEL,
            values.milliseconds,
            "MS",
            "Let a frame wait so long for others to fill its batch; 0 closes at once.",
        ),
    )
    fill: Fill = field(
        default=Fill.LAST,
        metadata=_about(
            Group.MODEL,
            values.one_of(Fill),
            "last|zeros",
            "Fill a short batch with copies of its last frame, or with zeros.",
        ),
    )
    threads: int | None = field(
        default=None,
        metadata=_about(
            Group.MODEL,
            values.whole(1, 1024),
            "N",
            "Use so many CPU threads for the model.",
            said="one on a CPU, else what torch takes",
        ),
    )
    compile: bool = field(
        default=False,
        metadata=_about(
            Group.MODEL, values.yes_or_no, None, "Run the model through torch.compile."
        ),
    )
    max_sessions: int = field(
        default=16,
        metadata=_about(
            Group.SESSIONS,
            values.whole(1, 256),
            "N",
            "Admit so many sessions; the memory for all is taken at start.",
        ),
    )
    cameras: tuple[Camera, ...] = field(
        default=(),
        repr=False,
        metadata=_about(
            Group.SESSIONS,
            values.camera,
            "NAME=URL",
            "Turn this RTSP camera into a session called NAME (repeatable).",
            name="rtsp",
            many=True,
            secret=True,
        ),
    )
    broker_url: str | None = field(
        default=None,
        repr=False,
        metadata=_about(
            Group.TELEMETRY,
            values.broker_url,
            "URL",
            "Publish to this MQTT broker, mqtt:// or mqtts://, instead of an embedded one.",
            secret=True,
        ),
    )
    broker_port: int = field(
        default=1883,
        metadata=_about(
            Group.TELEMETRY,
            values.whole(0, 65535, ", 0 being any free one"),
            "PORT",
            "The embedded broker's port, on loopback; 0 takes any free one.",
        ),
    )
    topic_prefix: str = field(
        default="omokage",
        metadata=_about(Group.TELEMETRY, values.topic_prefix, "PREFIX", "Where all topics begin."),
    )
    batch_telemetry: bool = field(
        default=False,
        metadata=_about(
            Group.TELEMETRY, values.yes_or_no, None, "Publish each batch by itself, too."
        ),
    )
    node: str = field(
        default_factory=_this_machine,
        metadata=_about(
            Group.TELEMETRY,
            values.node,
            "NAME",
            "This server's name in topics.",
            said="this machine's name",
        ),
    )

    @property
    def scheme(self) -> Literal["http", "https"]:
        """What the doors speak."""
        return "https" if self.https or self.tls_cert is not None else "http"


def settings_table() -> tuple[Setting, ...]:
    """Every setting, in the order of `Settings`: what flags and `--help` are made from."""
    return tuple(
        Setting(
            field=one.name,
            name=one.metadata["name"] or one.name,
            group=one.metadata["group"],
            parse=one.metadata["parse"],
            metavar=one.metadata["metavar"],
            help=one.metadata["help"],
            default=_in_words(one.default, one.metadata["said"]),
            many=one.metadata["many"],
            secret=one.metadata["secret"],
        )
        for one in fields(Settings)
    )


def read_settings(
    flags: Mapping[str, Sequence[str]],
    environ: Mapping[str, str],
    config: Path | None = None,
) -> Settings:
    """Flags over variables over the file over the defaults.

    `flags`: a setting's name -> what was written, once for each time it was given. `config`: the
    file; None: the one that OMOKAGE_CONFIG names, if any. A repeatable setting is taken from its
    strongest place, not added up; a variable holds several with spaces between.
    Raises SettingsError, which names the setting as the user wrote it, and the mend.
    """
    named = f"--config {config}"
    if config is None and (path := environ.get(CONFIG_VARIABLE)):
        config, named = Path(path), f"{CONFIG_VARIABLE}={path}"
    table = settings_table()
    file = {} if config is None else _read_file(config, named, {it.name for it in table})
    chosen: dict[str, Any] = {}
    places: dict[str, _Place] = {}
    for it in table:
        place = _strongest(it, flags, environ, file, config)
        if place is not None:
            places[it.field] = place
            chosen[it.field] = place.read(it)
    settings = Settings(**chosen)
    if settings.scheme == "https" and "host" not in places:
        settings = replace(settings, host=EVERYWHERE)  # it is for the others: none is needed here
    _check_together(settings, lambda name: _said(settings, name, places.get(name)))
    return settings


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a setting was set, and what stands there."""

    texts: tuple[str, ...]
    before: str  # what the user sees before and after the value: `--port ` and nothing,
    after: str = ""  # `OMOKAGE_PORT=` and nothing, or `port = ` and ` in omokage.toml`

    def read(self, it: Setting) -> object:
        read = tuple(self._read_one(it, text) for text in self.texts)
        return read if it.many else read[-1]

    def say(self, text: str, *, secret: bool) -> str:
        if secret:
            return self.before.rstrip(" =") + self.after
        shown = text if text.isprintable() and text.strip() else repr(text)
        return f"{self.before}{shown[:80]}{self.after}"

    def _read_one(self, it: Setting, text: str) -> object:
        try:
            return it.parse(text)
        except ValueError as error:
            raise SettingsError(f"{self.say(text, secret=it.secret)} {error}") from None
        except SettingsError as error:  # a value of ours that names itself
            raise SettingsError(f"{self.say('', secret=True)}: {error}") from None


def _strongest(
    it: Setting,
    flags: Mapping[str, Sequence[str]],
    environ: Mapping[str, str],
    file: Mapping[str, object],
    config: Path | None,
) -> _Place | None:
    if texts := tuple(flags.get(it.name, ())):
        return _Place(texts, f"{it.flag} ")
    if it.variable in environ:
        text = environ[it.variable]
        texts = tuple(text.split()) if it.many else (text,)
        return _Place(texts, f"{it.variable}=")
    if it.name in file:
        assert config is not None
        place = _Place((), f"{it.name} = ", f" in {config}")
        return _Place(_file_texts(it, file[it.name], place), place.before, place.after)
    return None


def _file_texts(it: Setting, value: object, place: _Place) -> tuple[str, ...]:
    match value:
        case bool():
            return (str(value).lower(),)
        case str() | int() | float():
            return (str(value),)
        case dict() if it.parse is values.camera:  # [rtsp] door = "rtsp://..."
            return tuple(f"{name}={url}" for name, url in value.items())
        case list() if it.many and all(isinstance(one, str) for one in value):
            return tuple(value)
        case list() if it.parse is values.batch_sizes:
            return (",".join(map(str, value)),)
    wanted = "a list of texts" if it.many else "a single value"
    raise SettingsError(f"{place.say('', secret=True)} is of the wrong kind: write {wanted}")


def _read_file(path: Path, named: str, known: set[str]) -> Mapping[str, object]:
    try:
        file = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        reason = (error.strerror or "unreadable").lower()
        raise SettingsError(f"{named} cannot be read ({reason}): mend the path") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{named} is no TOML: {error}") from None
    for key in file:
        if key not in known:
            near = difflib.get_close_matches(key.replace("-", "_"), known, n=1, cutoff=0.6)
            mend = f"did you mean {near[0]}?" if near else "`omokage serve --help` names them all"
            raise SettingsError(f"{path} has an unknown setting {key}: {mend}")
    return file


def _check_together(settings: Settings, said: Callable[[str], str]) -> None:
    """What no setting can tell by itself. `said`: a field as the user wrote it."""
    if (settings.tls_cert is None) != (settings.tls_key is None):
        given, due = ("tls_cert", "--tls-key") if settings.tls_cert else ("tls_key", "--tls-cert")
        raise SettingsError(f"{said(given)} comes without {due}: pass both")
    is_guarded = settings.token or settings.scheme == "https"  # which makes a token
    if not (is_loopback(settings.host) or is_guarded or settings.insecure):
        raise SettingsError(
            f"{said('host')} opens the server to others: "
            "set --token (or OMOKAGE_TOKEN), or say --insecure"
        )
    if settings.batch_sizes and max(settings.batch_sizes) > settings.max_sessions:
        raise SettingsError(
            f"{said('batch_sizes')} is more than {said('max_sessions')}: "
            "such a batch could never be full; raise the one or lower the other"
        )
    if settings.udp_ports and len(settings.udp_ports) < settings.max_sessions:
        raise SettingsError(
            f"{said('udp_ports')} has fewer ports than {said('max_sessions')}: "
            "each session takes one, and each viewer; widen it"
        )
    names = [camera.name for camera in settings.cameras]
    for name in names:
        if names.count(name) > 1:
            raise SettingsError(f"{said('cameras')} names two cameras {name}: rename one")
    if len(names) > settings.max_sessions:
        raise SettingsError(
            f"{said('cameras')} gives {len(names)} cameras, more than {said('max_sessions')}: "
            "each is a session; raise it"
        )


def _said(settings: Settings, name: str, place: _Place | None) -> str:
    (it,) = (it for it in settings_table() if it.field == name)
    value = getattr(settings, name)
    place = place or _Place((), f"{it.flag} ")
    return place.say(_in_words(value, None), secret=it.secret)


def _in_words(value: object, said: str | None) -> str:
    match value:
        case _ if said is not None:
            return said
        case None | False | ():
            return ""
        case Enum():
            return str(value.value)
        case tuple():
            return ",".join(map(str, value))
        case float():
            return f"{value:g}"
    return str(value)
