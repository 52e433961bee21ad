"""What can go wrong that somebody can mend: one class for each, below one root."""


class OmokageError(Exception):
    """The root. Its message names the thing, the trouble and the mend, on one line."""


class SettingsError(OmokageError):
    """A flag, a variable or a key of the settings file is wrong."""


class ModelError(OmokageError):
    """The model cannot be loaded, or does not do what its shape promises."""


class PortraitRefused(ModelError):
    """There is no identity in this portrait, or it is no picture that can be read."""


class NoSuchPortrait(PortraitRefused):
    """The model ships no portrait of this name."""


class PortraitOvertaken(OmokageError):
    """A newer portrait has taken its place."""


class NoPortraits(OmokageError):
    """The model has no identity, so that a portrait changes nothing."""


class ControlRefused(OmokageError):
    """A model has no such control, or not in this range."""


class DeviceError(OmokageError):
    """The device asked for is not there, or cannot be used."""


class LeaseError(OmokageError):
    """The lane has changed hands."""


class SourceError(OmokageError):
    """A camera or a file cannot be opened, read or decoded."""


class OfferError(OmokageError):
    """An SDP offer that cannot be answered."""


class OfferUnsupported(OfferError):
    """A well-formed offer of something that is not to be had here."""


class ServerFull(OmokageError):
    """Every lane is taken."""


class NameTaken(OmokageError):
    """A live session has this name already."""


class NameRefused(OmokageError):
    """A session cannot have this name."""


class NoSuchSession(OmokageError):
    """No live session has this name."""


class BrokerError(OmokageError):
    """The MQTT broker cannot be started or reached."""


class WorkerRefused(OmokageError):
    """The worker cannot start, and a restart would not help: a user's mistake."""


class WorkerLost(OmokageError):
    """A worker of ours died or fell silent too often to go on."""
