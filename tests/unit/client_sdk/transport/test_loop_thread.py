import asyncio
import gc
import os
import sys
import threading
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest

from client_sdk._transport.http.loop_thread import in_loop_thread, submit
from tests.support.patience import PATIENCE, wait_for

# Ctrl-C comes neither between a lock's being taken and its `with`, nor before it is given back: Python looks for it
# when a call is over, and a profile is told both.
OF_A_LOCK = {("c_return", "__enter__"), ("c_call", "__exit__")}


async def where():
    await asyncio.sleep(0)
    return threading.current_thread(), in_loop_thread()


def test_coroutines_share_one_background_thread():
    (first, inside), (second, _) = submit(where).result(PATIENCE), submit(where).result(PATIENCE)
    assert first is second and first.daemon and inside and not in_loop_thread()


def test_cancelling_the_future_cancels_the_coroutine():
    cancelled = threading.Event()

    async def sleeper():
        try:
            await asyncio.sleep(10 * PATIENCE)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    future = submit(sleeper)
    submit(lambda: asyncio.sleep(0.01)).result(PATIENCE)
    future.cancel()
    assert cancelled.wait(PATIENCE)


def test_a_coroutine_whose_future_is_cancelled_at_once_ends():
    future = submit(lambda: asyncio.sleep(10 * PATIENCE))
    future.cancel()
    assert submit(where).result(PATIENCE)[1]
    assert not submit(lambda: others()).result(PATIENCE)


async def others():
    await asyncio.sleep(0)
    return asyncio.all_tasks() - {asyncio.current_task()}


def test_a_result_is_kept_by_nothing_but_its_future():
    class Result:
        pass

    async def give():
        return Result()

    gc.disable()
    try:
        result = weakref.ref(submit(give).result(PATIENCE))
        submit(where).result(PATIENCE)  # the loop's own last reference is gone
        assert result() is None
    finally:
        gc.enable()


def test_what_a_coroutine_raises_is_the_futures():
    async def fails():
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        submit(fails).result(PATIENCE)


def test_what_a_coroutine_raises_of_which_the_future_is_given_up_is_not_logged(caplog):
    begun = threading.Event()

    async def fails():
        begun.set()
        try:
            await asyncio.sleep(10 * PATIENCE)
        except asyncio.CancelledError:
            raise ValueError("the client was closed") from None

    future = submit(fails)
    assert begun.wait(PATIENCE)
    future.cancel()
    wait_for(lambda: not submit(others).result(PATIENCE))
    del future
    gc.collect()
    assert caplog.records == []


def test_ctrl_c_at_any_step_leaves_nothing_that_was_not_awaited_and_holds_up_no_other_call():
    """Python may raise KeyboardInterrupt wherever a function is called or returns."""
    for steps in count():
        left = iter(range(steps))

        def interrupt(frame, event, argument, left=left):
            if (event, getattr(argument, "__name__", "")) in OF_A_LOCK or "weakref" in frame.f_code.co_filename:
                return  # what weakrefs raise is lost
            if next(left, None) is None:
                raise KeyboardInterrupt

        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            sys.setprofile(interrupt)
            try:
                submit(where)
                sys.setprofile(None)
                break
            except KeyboardInterrupt:  # which ended the profile, too
                pass
        assert not caught
        with ThreadPoolExecutor(1) as pool:  # a thread that finds no lock held
            assert pool.submit(lambda: submit(where).result(PATIENCE)).result(PATIENCE)[1]
    assert steps > 5


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_has_a_loop_of_its_own():
    submit(where).result(PATIENCE)
    child = os.fork()
    if child == 0:
        os._exit(0 if submit(where).result(PATIENCE)[1] else 1)
    assert os.waitpid(child, 0)[1] == 0
