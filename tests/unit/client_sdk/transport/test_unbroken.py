import threading
import weakref

from client_sdk._transport.unbroken import Unbroken
from tests.support.patience import wait_for


class Held:
    """What a task refers to."""

    def use(self) -> None:
        pass


def test_a_task_that_is_done_is_let_go():
    unbroken, held = Unbroken("test-unbroken"), Held()
    reference = weakref.ref(held)
    unbroken.do(held.use)
    del held
    wait_for(lambda: reference() is None)


def test_the_thread_ends_with_it():
    unbroken = Unbroken("test-unbroken-ends")
    unbroken.wait_for(lambda: None, 60)
    del unbroken
    wait_for(lambda: "test-unbroken-ends" not in [thread.name for thread in threading.enumerate()])


def test_tasks_are_done_where_no_thread_can_be_started(monkeypatch):
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't create new thread at interpreter shutdown")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    done: list[int] = []
    unbroken = Unbroken("test-unbroken-none")
    unbroken.do(lambda: done.append(1))
    unbroken.wait_for(lambda: done.append(2), 60)
    assert done == [1, 2]
