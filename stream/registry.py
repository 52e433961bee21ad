"""Who is here: admission, names, and which lane is whose."""

from __future__ import annotations

import re
import secrets
from collections import deque
from collections.abc import Iterator
from datetime import datetime

from stream.session import PATIENCE, Life, Session, SessionFacts, Source
from workers.errors import NameRefused, NameTaken, ServerFull

NAME = re.compile(r"[a-z0-9-]{1,64}")
SECRET_BYTES = 24  # 192 random bits; 32 characters in a link
CONSONANTS = "bdghkmnprstvyz"
VOWELS = "aeiou"
SYLLABLES = 6  # 70 ** 6: 37 bits


class LaneNumbers:
    """A lane's numbers; they live as long as the server and never fall.

    One producer writes at a time: the present lease's.
    """

    __slots__ = ("last_lease", "last_sequence")

    def __init__(self) -> None:
        self.last_lease = 0
        self.last_sequence = 0

    def take_lease(self) -> int:
        """The number of a new tenancy, from 1."""
        self.last_lease += 1
        return self.last_lease

    def take_sequence(self) -> int:
        """The number of the frame that is published next, from 1, over all leases."""
        self.last_sequence += 1
        return self.last_sequence


class Registry:
    """The sessions of this server, at most `max_sessions`."""

    def __init__(self, max_sessions: int) -> None:
        self.max_sessions = max_sessions
        self._numbers = tuple(LaneNumbers() for _ in range(max_sessions))
        # Least recently used first: what an old tenant left in flight is long gone by then.
        self._free_lanes = deque(range(max_sessions))
        self._by_name: dict[str, Session] = {}
        self._by_secret: dict[str, Session] = {}

    def admit(
        self, name: str | None, source: Source, avatar: str, now_s: float, since: datetime
    ) -> Session:
        """A new session, joining, on a lane and a lease of its own; name None: one is made up.

        now_s: CLOCK_MONOTONIC, `since`: the same instant in UTC, to be published.
        Raises NameRefused, NameTaken, or ServerFull when every lane is taken.
        """
        if name is not None:
            self._check(name)
        if not self._free_lanes:
            raise ServerFull(
                f"all {self.max_sessions} lanes are taken: "
                "try again in a moment, or raise --max-sessions"
            )
        lane = self._free_lanes.popleft()
        facts = SessionFacts(
            name=self._new_name() if name is None else name,
            secret=secrets.token_urlsafe(SECRET_BYTES),
            lane=lane,
            lease=self._numbers[lane].take_lease(),
            source=source,
            avatar=avatar,
            since=since,
        )
        session = Session(facts, Life(PATIENCE[source], now_s))
        self._by_name[facts.name] = session
        self._by_secret[facts.secret] = session
        return session

    def release(self, session: Session) -> None:
        """Give the session's lane and name free; once more changes nothing."""
        if self._by_secret.pop(session.facts.secret, None) is None:
            return
        del self._by_name[session.name]
        self._free_lanes.append(session.lane)

    def by_name(self, name: str) -> Session | None:
        return self._by_name.get(name)

    def by_secret(self, secret: str) -> Session | None:
        return self._by_secret.get(secret)

    def numbers(self, lane: int) -> LaneNumbers:
        """The lane's counters, which outlive its leases."""
        return self._numbers[lane]

    @property
    def free_lanes(self) -> int:
        return len(self._free_lanes)

    def __len__(self) -> int:
        return len(self._by_name)

    def __iter__(self) -> Iterator[Session]:
        """The sessions as they stand now, oldest first; ending one meanwhile does no harm."""
        return iter(tuple(self._by_name.values()))

    def _check(self, name: str) -> None:
        if not NAME.fullmatch(name):
            # Not the name itself: it is a stranger's, of any length and any characters.
            raise NameRefused(
                "a session's name has 1 to 64 of the characters a-z, 0-9 and -: choose another"
            )
        if name in self._by_name:
            raise NameTaken(f"the name {name} is taken: end that session, or choose another name")

    def _new_name(self) -> str:
        while (name := made_up_name()) in self._by_name:
            pass
        return name


def made_up_name() -> str:
    """A name that can be read aloud and not guessed, as in `kamori-tesuna`."""
    syllables = [secrets.choice(CONSONANTS) + secrets.choice(VOWELS) for _ in range(SYLLABLES)]
    half = SYLLABLES // 2
    return "".join(syllables[:half]) + "-" + "".join(syllables[half:])
