"""The lane board's message passing, without Ray: its methods are coroutines."""

import asyncio

import pytest

from trainables.board import MAX_STARTS, Assignment, LaneBoard


def play(scenario, lanes=1):
    """Run a scenario on a fresh board; fail rather than wait for ever."""

    async def bounded():
        async with asyncio.timeout(10):
            await scenario(LaneBoard(lanes))

    asyncio.run(bounded())


def posted(attempt="a", trial=0):
    return Assignment(attempt, trial, {})


def test_a_trial_goes_through():
    async def scenario(board):
        await board.submit(posted())
        assert (await board.take("lane-0", 1)).attempt == "a"
        going = asyncio.create_task(board.report("a", 1, {"x": 2.0}, False))
        report = await board.next_report("a")
        assert (report.step, report.metrics, report.lane, report.last) == (1, {"x": 2.0}, "lane-0", False)
        assert not going.done()  # the lane waits for the trial's decision
        following = asyncio.create_task(board.next_report("a"))
        assert await going
        assert await board.report("a", 2, {}, True)  # the last one is not waited for
        assert (await following).last
        await board.release("lane-0")
        assert await board.take("lane-0", 0.01) == "wait"

    play(scenario)


def test_a_stopped_trial_frees_its_lane():
    async def scenario(board):
        await board.submit(posted())
        await board.take("lane-0", 1)
        going = asyncio.create_task(board.report("a", 1, {}, False))
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
        first = asyncio.create_task(board.report("a", 1, {"x": 1.0}, False))
        await board.next_report("a")
        following = asyncio.create_task(board.next_report("a"))
        assert await first
        # killed here; the new worker resumes from the checkpoint of step 1 and makes that report again
        assert (await board.take("lane-0", 1)).attempt == "a"
        assert await board.report("a", 1, {"x": 1.0}, False)
        assert await board.report("a", 2, {"x": 0.5}, True)
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
            going.append(asyncio.create_task(board.report("a", step, {}, False)))
            report = await board.next_report("a")
            assert (report.step, report.failure) == (step, None)
            repeated = asyncio.create_task(board.report("a", step, {}, False))  # no new one
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
        assert not await board.report("a", 1, {}, False)

    play(scenario)


def test_a_lane_s_failure_reaches_the_trial_and_frees_the_lane():
    async def scenario(board):
        await board.submit(posted("a", 0))
        await board.submit(posted("b", 1))
        await board.take("lane-0", 1)
        going = asyncio.create_task(board.report("a", 7, {}, False))
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
        going = asyncio.create_task(board.report("a", 1, {}, False))
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


@pytest.mark.parametrize("lanes", [1, 2])
def test_losing_a_lane_fails_its_trial_and_with_the_last_lane_all_that_wait(lanes):
    async def scenario(board):
        await board.submit(posted("a", 0))
        await board.submit(posted("b", 1))
        await board.take("lane-0", 1)
        await board.lane_lost("lane-0", "gone")
        assert (await board.next_report("a")).failure == ("gone" if lanes > 1 else "no lane is left: gone")
        waiting = asyncio.create_task(board.next_report("b"))
        await asyncio.sleep(0)
        assert waiting.done() == (lanes == 1)
        waiting.cancel()

    play(scenario, lanes)


def test_without_any_lane_a_trial_fails_at_once():
    async def scenario(board):
        await board.lane_lost("lane-0", "gone")
        assert await board.wait_ready() == {"lane-0": "gone"}
        await board.submit(posted())
        assert "gone" in (await board.next_report("a")).failure

    play(scenario)


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
        assert not await board.report("a", 1, {}, False)
        await board.release("lane-0")
        assert (await waiting).attempt == "b"

    play(scenario, lanes=2)
