"""Who watches a session in one codec, each at a rate that its network carries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from stream.allowance import Allowance
from stream.bitrate import Split


class Rate(Protocol):
    """What a rendition is to its audience."""

    def follow(self, bit_rate: int) -> None: ...


Rendition = TypeVar("Rendition", bound=Rate)
Given = TypeVar("Given", bound=Rate, contravariant=True)


class Member(Protocol[Given]):
    """A viewer's `PacketTrack`."""

    def move(self, rendition: Given) -> None:
        """From now on its packets come from this one; to where it is already is no move."""


class Audience(Generic[Rendition]):
    """Sets the renditions' rates at each report of a viewer, and moves viewers between them.

    The lower rendition is open only while somebody follows it. Belongs to the event loop.
    """

    def __init__(
        self,
        main: Rendition,
        most_bit_rate: int,
        open_lower: Callable[[int], Rendition],
        drop_lower: Callable[[], None],
    ) -> None:
        """open_lower: gives the lower rendition, opened at this rate where there was none."""
        self._main = main
        self._most_bit_rate = most_bit_rate
        self._open_lower = open_lower
        self._drop_lower = drop_lower
        self._members: dict[Member[Rendition], Allowance] = {}
        self._split: Split[Member[Rendition]] = Split()

    def join(self, member: Member[Rendition]) -> None:
        """It is being sent the main rendition."""
        self._members[member] = Allowance(self._most_bit_rate)

    def leave(self, member: Member[Rendition], now_s: float) -> None:
        """It is sent nothing any more; leaving twice is no error."""
        if self._members.pop(member, None) is not None:
            self._follow(now_s)

    def estimate(
        self, member: Member[Rendition], bit_rate: int, sent_bit_rate: float, now_s: float
    ) -> None:
        """A viewer's REMB, beside what it was sent of late."""
        if member in self._members:
            self._members[member].estimate(bit_rate, sent_bit_rate, now_s)
            self._follow(now_s)

    def loss(
        self, member: Member[Rendition], fraction: float, sent_bit_rate: float, now_s: float
    ) -> None:
        """The fraction lost of a viewer's receiver report, 0 to 1."""
        if member in self._members:
            self._members[member].loss(fraction, sent_bit_rate, now_s)
            self._follow(now_s)

    def close(self) -> None:
        """The session is over: nobody is moved any more."""
        self._members.clear()

    def _follow(self, now_s: float) -> None:
        if not self._members:
            self._main.follow(self._most_bit_rate)
            self._drop_lower()
            return
        allowed = {member: it.bit_rate for member, it in self._members.items()}
        plan = self._split.plan(allowed, now_s)
        self._main.follow(plan.main)
        if plan.lower is None:
            for member in self._members:
                member.move(self._main)
            self._drop_lower()
            return
        lower = self._open_lower(plan.lower)
        lower.follow(plan.lower)
        for member in self._members:
            member.move(lower if member in plan.on_lower else self._main)
