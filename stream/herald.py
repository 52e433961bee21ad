"""What the world is told of a node over MQTT: its sessions, its events, its overview."""

from __future__ import annotations

import logging
import time
from importlib.metadata import version

from stream.contract import (
    Event,
    Info,
    Overview,
    SessionState,
    Severity,
    WorkerDevice,
)
from stream.drops import Dropped
from stream.lanes import Lanes
from stream.live import LiveSession
from stream.session import Session
from stream.settings import Settings
from stream.telemetry import Telemetry
from workers.messages import Happened, Ready

log = logging.getLogger(__name__)

VERSION = version("omokage")


class Herald:
    """Puts what happens into the contract's words. Belongs to the event loop."""

    def __init__(self, settings: Settings, lanes: Lanes, telemetry: Telemetry) -> None:
        self._settings = settings
        self._lanes = lanes
        self._telemetry = telemetry
        self._began_s = time.monotonic()

    # ------------------------------------------------------------ what is kept

    def info(self, ready: Ready) -> None:
        loaded = self._lanes.loaded
        assert loaded is not None
        self._telemetry.publish(
            Info(
                version=VERSION,
                model=self._settings.model,
                width=loaded.geometry.width,
                height=loaded.geometry.height,
                batch_sizes=loaded.batch_sizes,
                sessions_limit=self._settings.max_sessions,
                workers=(WorkerDevice(ready.device, ready.device_name, ready.device_uuid),),
            )
        )

    def overview(self, sessions: int, viewers: int) -> None:
        self._telemetry.publish(
            Overview(
                phase=self._telemetry.phase,
                uptime_s=round(time.monotonic() - self._began_s, 1),
                sessions=sessions,
                viewers=viewers,
                workers=(self._lanes.overview(),),
            )
        )

    def session(self, live: LiveSession) -> None:
        session = live.session
        self._telemetry.publish(
            SessionState(
                name=session.name,
                state=session.state,
                since=live.since,
                source=session.facts.source,
                reason=session.life.reason,
                worker=0,
                avatar=session.facts.avatar,
                viewers=session.viewers,
            )
        )

    # ------------------------------------------------------- events of the node

    def node_started(self) -> None:
        self._event("node_started", f"node {self._settings.node} serves")

    def node_draining(self) -> None:
        self._event("node_draining", f"node {self._settings.node} stops")

    # ----------------------------------------------------- events of the worker

    def worker_ready(self, ready: Ready, again: bool) -> None:
        self._event(
            "worker_restarted" if again else "worker_ready",
            f"worker 0 is ready on {ready.device_name} after {ready.warm_up_s:.1f} s",
            worker=0,
            data={"device": ready.device, "captured": ready.captured},
        )

    def worker_lost(self, message: str) -> None:
        self._event("worker_lost", message, Severity.ERROR, worker=0)

    def worker_told(self, happened: Happened) -> None:
        log.warning("worker tells: %s %s", happened.event_type, happened.message)
        self._event(
            happened.event_type,
            happened.message,
            Severity(happened.severity),
            worker=0,
            data=dict(happened.data),
        )

    # -------------------------------------------------------- events of sessions

    def session_refused(self, why: str) -> None:
        self._event("session_refused", why, Severity.WARNING)

    def session_started(self, session: Session) -> None:
        log.info("session admitted: session=%s source=%s", session.name, session.facts.source.value)
        self._event("session_started", f"session {session.name} began", session=session)

    def session_ended(self, session: Session) -> None:
        log.info("session ended: session=%s reason=%s", session.name, session.life.reason)
        self._event(
            "session_ended",
            f"session {session.name} ended: {session.life.reason}",
            session=session,
            data={"reason": session.life.reason},
        )

    def session_stalled(self, session: Session) -> None:
        log.warning("source is silent: session=%s", session.name)
        self._event(
            "session_stalled",
            f"session {session.name} is silent",
            Severity.WARNING,
            session=session,
        )

    def session_resumed(self, session: Session) -> None:
        self._event("session_resumed", f"session {session.name} is back", session=session)

    def camera_back(self, session: Session) -> None:
        log.info("camera is back: session=%s", session.name)
        self._event("camera_back", f"camera {session.name} is back", session=session)

    def camera_lost(self, session: Session, reason: str) -> None:
        log.warning("camera lost: session=%s reason=%s", session.name, reason)
        self._event(
            "camera_lost",
            f"camera {session.name} was lost: {reason}",
            Severity.WARNING,
            session=session,
        )

    def frames_dropped(self, session: Session, dropped: Dropped) -> None:
        self._event(
            "frames_dropped",
            f"session {session.name} lost {dropped.dropped} of {dropped.arrived} frames",
            Severity.WARNING,
            session=session,
            data={"dropped": dropped.dropped, "arrived": dropped.arrived},
        )

    def _event(
        self,
        event_type: str,
        message: str,
        severity: Severity = Severity.INFO,
        *,
        worker: int | None = None,
        session: Session | None = None,
        data: dict[str, object] | None = None,
    ) -> None:
        name = None if session is None else session.name
        self._telemetry.publish(Event(event_type, severity, message, worker, name, data or {}))
