"""The scenarios of `scripts/prove`, a few seconds each: counts, order, bounds and states."""

from __future__ import annotations

import scenarios


async def test_eight_sessions_never_meet_and_every_frame_is_accounted_for() -> None:
    (await scenarios.isolation(11)).check()


async def test_a_lane_that_changes_hands_shows_nothing_of_its_old_tenant() -> None:
    (await scenarios.handover(12)).check()


async def test_twice_the_load_is_shared_equally_and_queues_nothing() -> None:
    (await scenarios.overload(11)).check()


async def test_a_worker_killed_inside_a_batch_shows_no_camera_and_comes_back() -> None:
    (await scenarios.kill(2)).check()


async def test_sessions_that_came_and_went_leave_nothing_behind() -> None:
    (await scenarios.churn(30, warm=12)).check()
