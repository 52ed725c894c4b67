"""The lane board's message passing, without Ray: its methods are coroutines."""

import asyncio

import pytest

from tests.trainables.lanes.tasks import Counting
from trainables.lanes.board import MAX_STARTS, Assignment, LaneBoard, places_of


def play(scenario, lanes=1):
    """Run a scenario on a fresh board; fail rather than wait for ever."""

    async def bounded():
        async with asyncio.timeout(10):
            board = LaneBoard()
            for index in range(lanes):
                await board.add_lanes([f"lane-{index}"])
            await scenario(board)

    asyncio.run(bounded())


def posted(attempt="a", trial=0):
    return Assignment(attempt, trial, Counting())


def test_a_trial_goes_through():
    async def scenario(board):
        await board.submit(posted())
        assert (await board.take("lane-0", 1)).attempt == "a"
        going = asyncio.create_task(board.report("lane-0", "a", 1, {"x": 2.0}, False))
        report = await board.next_report("a")
        assert (report.step, report.metrics, report.lane, report.last) == (1, {"x": 2.0}, "lane-0", False)
        assert not going.done()  # the lane waits for the trial's decision
        following = asyncio.create_task(board.next_report("a"))
        assert await going
        assert await board.report("lane-0", "a", 2, {}, True)  # the last one is not waited for
        assert (await following).last
        await board.release("lane-0")
        assert await board.take("lane-0", 0.01) == "wait"

    play(scenario)


def test_what_is_repeated_may_end_earlier():
    """On a stream or other hardware a plateau may come at a step that had been reported, and passed, before."""

    async def scenario(board):
        await board.submit(posted())
        await board.take("lane-0", 1)
        for step in (1, 2):
            going = asyncio.create_task(board.report("lane-0", "a", step, {}, False))
            await board.next_report("a")
        going.cancel()  # its process dies
        assert (await board.take("lane-0", 1)).attempt == "a"
        following = asyncio.create_task(board.next_report("a"))
        assert await board.report("lane-0", "a", 1, {"x": 1.0}, True)
        report = await following
        assert (report.step, report.metrics, report.last) == (1, {"x": 1.0}, True)

    play(scenario)


def test_work_that_returns_without_a_last_report_fails():
    async def scenario(board):
        await board.submit(posted())
        await board.take("lane-0", 1)
        await board.release("lane-0")
        report = await board.next_report("a")
        assert (report.last, report.failure) == (True, "ended without its last report")

    play(scenario)


def test_a_stopped_trial_frees_its_lane():
    async def scenario(board):
        await board.submit(posted())
        await board.take("lane-0", 1)
        going = asyncio.create_task(board.report("lane-0", "a", 1, {}, False))
        await board.next_report("a")
        await board.stop("a")
        assert not await going
        await board.release("lane-0")
        await board.submit(posted("b", 1))
        assert (await board.take("lane-0", 1)).attempt == "b"

    play(scenario)


def test_a_restarted_lane_gets_its_trial_again_and_reports_nothing_twice():
    async def scenario(board):
        await board.submit(posted())
        await board.take("lane-0", 1)
        first = asyncio.create_task(board.report("lane-0", "a", 1, {"x": 1.0}, False))
        await board.next_report("a")
        following = asyncio.create_task(board.next_report("a"))
        assert await first
        # killed here; the new worker resumes from the checkpoint of step 1 and makes that report again
        assert (await board.take("lane-0", 1)).attempt == "a"
        assert await board.report("lane-0", "a", 1, {"x": 1.0}, False)
        assert await board.report("lane-0", "a", 2, {"x": 0.5}, True)
        assert (await following).step == 2

    play(scenario)


def test_an_assignment_that_keeps_killing_its_workers_fails():
    async def scenario(board):
        await board.submit(posted())
        for _ in range(MAX_STARTS):
            assert (await board.take("lane-0", 1)).attempt == "a"
        await board.submit(posted("b", 1))
        assert (await board.take("lane-0", 1)).attempt == "b"
        report = await board.next_report("a")
        assert report.failure == f"its worker died ({MAX_STARTS} times, at step 0)"
        assert (report.last, report.metrics, report.lane) == (True, {}, "lane-0")

    play(scenario)


def test_one_of_a_pack_that_keeps_killing_its_worker_takes_no_other_down():
    """`b` kills it whenever it is trained; the others end as soon as they are trained and `b` is not."""
    places = places_of("lane-9", 3)

    async def scenario(board):
        await board.add_lanes(places)
        reports = {}
        for trial, name in enumerate("abc"):
            await board.submit(posted(name, trial))
            reports[name] = asyncio.create_task(board.next_report(name))
        while not all(report.done() for report in reports.values()):
            asked = await asyncio.gather(*(board.take(place, 0.01) for place in places))
            trained = {taken.attempt: place for taken, place in zip(asked, places, strict=True) if taken != "wait"}
            for name, place in trained.items():
                if "b" not in trained:
                    assert await board.report(place, name, 1, {}, True)
                    await board.release(place)
        failures = {name: report.result().failure for name, report in reports.items()}
        assert failures == {"a": None, "b": f"its worker died ({MAX_STARTS} times, at step 0)", "c": None}

    play(scenario)


def test_an_assignment_whose_workers_gave_up_fails_with_the_last_error():
    async def scenario(board):
        await board.submit(posted())
        for start in range(MAX_STARTS):
            assert (await board.take("lane-0", 1)).attempt == "a"
            await board.crashing("a", f"RuntimeError: no such thing, start {start}")
        assert await board.take("lane-0", 0.01) == "wait"
        report = await board.next_report("a")
        assert report.failure == f"RuntimeError: no such thing, start {MAX_STARTS - 1} ({MAX_STARTS} times, at step 0)"
        await board.crashing("a", "too late: it has ended")

    play(scenario)


def test_starts_are_counted_from_the_last_new_report():
    """What was said before it does not count either."""

    async def scenario(board):
        await board.submit(posted())
        going = []
        for step in (1, 2, 3):
            for _ in range(MAX_STARTS - 1):
                assert (await board.take("lane-0", 1)).attempt == "a"
                await board.crashing("a", "out of memory")
            going.append(asyncio.create_task(board.report("lane-0", "a", step, {}, False)))
            report = await board.next_report("a")
            assert (report.step, report.failure) == (step, None)
            repeated = asyncio.create_task(board.report("lane-0", "a", step, {}, False))  # no new one
            await asyncio.sleep(0)
            repeated.cancel()
        for _ in range(MAX_STARTS - 1):
            assert (await board.take("lane-0", 1)).attempt == "a"
        assert await board.take("lane-0", 0.01) == "wait"
        report = await board.next_report("a")
        assert report.failure == f"its worker died ({MAX_STARTS} times, at step 3)"
        assert (report.step, report.last) == (3, True)

    play(scenario)


def test_a_trial_that_is_stopped_before_a_lane_took_it_is_forgotten():
    async def scenario(board):
        await board.submit(posted("a", 0))
        await board.submit(posted("b", 1))
        await board.stop("a")
        assert (await board.take("lane-0", 1)).attempt == "b"
        await board.stop("a")  # nothing of it is left
        assert not await board.report("lane-0", "a", 1, {}, False)

    play(scenario)


def test_a_lane_s_failure_reaches_the_trial_and_frees_the_lane():
    async def scenario(board):
        await board.submit(posted("a", 0))
        await board.submit(posted("b", 1))
        await board.take("lane-0", 1)
        going = asyncio.create_task(board.report("lane-0", "a", 7, {}, False))
        await board.next_report("a")
        following = asyncio.create_task(board.next_report("a"))
        assert await going
        await board.fail("a", "train/loss is nan by step 8")
        report = await following
        assert (report.step, report.failure, report.last) == (7, "train/loss is nan by step 8", True)
        await board.release("lane-0")
        assert (await board.take("lane-0", 1)).attempt == "b"

    play(scenario)


def test_a_retried_trial_supersedes_its_earlier_attempt():
    async def scenario(board):
        await board.submit(posted("a", 0))
        await board.take("lane-0", 1)
        going = asyncio.create_task(board.report("lane-0", "a", 1, {}, False))
        await asyncio.sleep(0)  # the trial's process dies without having heard
        await board.submit(posted("b", 0))
        assert not await going
        await board.release("lane-0")
        assert (await board.take("lane-0", 1)).attempt == "b"

    play(scenario)


def test_an_idle_lane_waits_and_hears_the_end():
    async def scenario(board):
        assert await board.take("lane-0", 0.01) == "wait"
        waiting = asyncio.create_task(board.take("lane-0", 100))
        await asyncio.sleep(0)
        await board.close()
        assert await waiting == "close"

    play(scenario)


def test_what_a_lost_lane_trained_goes_on_first_on_another():
    """Each step is reported once, whatever the lost lane's processes still say, and its starts count on."""

    async def scenario(board):
        for attempt, trial in (("a", 0), ("b", 1), ("c", 2)):
            await board.submit(posted(attempt, trial))
        await board.take("lane-0", 1)
        await board.take("lane-1", 1)
        going = asyncio.create_task(board.report("lane-0", "a", 1, {"x": 1.0}, False))
        await board.next_report("a")
        following = asyncio.create_task(board.next_report("a"))
        assert await going
        await board.lanes_lost(["lane-0"], "its node left")
        assert not await board.report("lane-0", "a", 2, {"x": 9.0}, False)
        assert await board.take("lane-0", 1) == "close"
        await board.release("lane-0")
        await board.release("lane-1")
        assert (await board.take("lane-1", 1)).attempt == "a"  # before c, which waits since before
        assert await board.report("lane-1", "a", 1, {"x": 1.0}, False)  # of its checkpoint
        assert await board.report("lane-1", "a", 2, {"x": 0.5}, True)
        report = await following
        assert (report.step, report.metrics, report.lane, report.failure) == (2, {"x": 0.5}, "lane-1", None)
        await board.release("lane-1")
        assert (await board.take("lane-1", 1)).attempt == "c"

    play(scenario, lanes=2)


def test_a_trial_that_loses_lane_after_lane_fails():
    async def scenario(board):
        await board.submit(posted("a", 0))
        await board.submit(posted("b", 1))
        for index in range(MAX_STARTS):
            assert (await board.take(f"lane-{index}", 1)).attempt == "a"
            await board.lanes_lost([f"lane-{index}"], "gone")
        assert (await board.take(f"lane-{MAX_STARTS}", 1)).attempt == "b"
        report = await board.next_report("a")
        assert report.failure == f"its worker died ({MAX_STARTS} times, at step 0)"

    play(scenario, lanes=MAX_STARTS + 1)


@pytest.mark.parametrize("coming", [False, True])
def test_with_the_last_lane_all_that_is_posted_fails_unless_another_is_coming(coming):
    async def scenario(board):
        await board.submit(posted("a", 0))
        await board.submit(posted("b", 1))
        await board.take("lane-0", 1)
        if coming:
            await board.add_lanes(["lane-1"])
        await board.lanes_lost(["lane-0"], "gone")
        first, second = (asyncio.create_task(board.next_report(attempt)) for attempt in "ab")
        await asyncio.sleep(0)
        assert (first.done(), second.done()) == (not coming, not coming)
        if coming:
            assert (await board.take("lane-1", 1)).attempt == "a"
            first.cancel(), second.cancel()
        else:
            assert (await first).failure == (await second).failure == "no lane is left: gone"

    play(scenario)


@pytest.mark.parametrize("comes", [True, False])
def test_a_lane_that_comes_back_is_waited_for_until_it_is_given_up(comes):
    async def scenario(board):
        await board.submit(posted("a", 0))
        await board.take("lane-0", 1)
        await board.lanes_lost(["lane-0"], "no room", back=True)
        await board.submit(posted("b", 1))
        heard = [asyncio.create_task(board.next_report(attempt)) for attempt in "ab"]
        await board.wait_ready()
        assert not any(one.done() for one in heard)
        if comes:
            await board.add_lanes(["lane-0"])
            assert (await board.take("lane-0", 1)).attempt == "a"
            for one in heard:
                one.cancel()
        else:
            await board.give_up("no room")
            assert [(await one).failure for one in heard] == ["no lane is left: no room"] * 2

    play(scenario)


@pytest.mark.parametrize("end", ["stopped", "its last report made", "failed"])
def test_a_trial_that_is_over_is_not_trained_again_when_its_lane_is_lost(end):
    async def scenario(board):
        await board.submit(posted("a", 0))
        await board.take("lane-0", 1)
        if end == "stopped":
            await board.stop("a")
        elif end == "failed":
            await board.fail("a", "train/loss is nan by step 3")
        else:
            await board.report("lane-0", "a", 5, {}, True)
        await board.lanes_lost(["lane-0"], "gone")
        assert await board.take("lane-1", 0.01) == "wait"
        if end != "stopped":
            assert (await board.next_report("a")).last

    play(scenario, lanes=2)


def test_without_any_lane_a_trial_fails_at_once_until_one_is_added():
    async def scenario(board):
        await board.lanes_lost(["lane-0"], "gone")
        await board.wait_ready()
        assert await board.ready_lanes() == set()
        await board.submit(posted())
        assert (await board.next_report("a")).failure == "no lane is left: gone"
        await board.add_lanes(["lane-0"])
        await board.submit(posted("b", 1))
        assert (await board.take("lane-0", 1)).attempt == "b"
        assert await board.ready_lanes() == {"lane-0"}

    play(scenario)


def test_lanes_are_waited_for_until_each_is_ready_or_lost():
    async def scenario(board):
        waiting = asyncio.create_task(board.wait_ready())
        asks = [asyncio.create_task(board.take(lane, 100)) for lane in ("lane-0", "lane-1")]
        await asyncio.sleep(0.01)
        assert await board.ready_lanes() == {"lane-0", "lane-1"}
        assert not waiting.done()
        await board.lanes_lost(["lane-2"], "could not be placed")
        await waiting
        await board.close()
        assert await asyncio.gather(*asks) == ["close", "close"]

    play(scenario, lanes=3)


def test_a_dead_worker_s_waiting_call_takes_nothing_from_its_successor():
    async def scenario(board):
        dead = asyncio.create_task(board.take("lane-0", 100))
        await asyncio.sleep(0)
        alive = asyncio.create_task(board.take("lane-0", 100))
        await asyncio.sleep(0)
        await board.submit(posted("a", 0))
        await board.submit(posted("b", 1))
        assert await dead == "wait"
        assert (await alive).attempt == "a"

    play(scenario)


def test_two_lanes_never_hold_the_same_trial():
    async def scenario(board):
        await board.submit(posted("a", 0))
        await board.take("lane-0", 1)
        await board.submit(posted("b", 0))  # the retry, while lane-0 has not yet heard
        assert await board.take("lane-1", 0.01) == "wait"
        waiting = asyncio.create_task(board.take("lane-1", 100))
        assert not await board.report("lane-0", "a", 1, {}, False)
        await board.release("lane-0")
        assert (await waiting).attempt == "b"

    play(scenario, lanes=2)
