import asyncio
import os
import threading

import pytest

from client_sdk._transport.http.loop_thread import in_loop_thread, submit
from tests.support.patience import PATIENCE


async def where():
    await asyncio.sleep(0)
    return threading.current_thread(), in_loop_thread()


def test_coroutines_share_one_background_thread():
    (first, inside), (second, _) = submit(where()).result(PATIENCE), submit(where()).result(PATIENCE)
    assert first is second and first.daemon and inside and not in_loop_thread()


def test_cancelling_the_future_cancels_the_coroutine():
    cancelled = threading.Event()

    async def sleeper():
        try:
            await asyncio.sleep(10 * PATIENCE)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    future = submit(sleeper())
    submit(asyncio.sleep(0.01)).result(PATIENCE)
    future.cancel()
    assert cancelled.wait(PATIENCE)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_has_a_loop_of_its_own():
    submit(where()).result(PATIENCE)
    child = os.fork()
    if child == 0:
        os._exit(0 if submit(where()).result(PATIENCE)[1] else 1)
    assert os.waitpid(child, 0)[1] == 0
