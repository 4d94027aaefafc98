from client_sdk._supervisor import LONGEST_PAUSE_SECONDS, STABLE_SECONDS, Pauses


def test_the_first_start_again_is_at_once_and_each_next_one_waits_twice_as_long():
    pauses = Pauses()
    assert [pauses.after_run_of(1.0) for _ in range(9)] == [0, 1, 2, 4, 8, 16, 32, 60, 60]
    assert LONGEST_PAUSE_SECONDS == 60


def test_a_server_that_stayed_up_is_started_at_once_again():
    pauses = Pauses()
    for _ in range(5):
        pauses.after_run_of(1.0)
    assert pauses.after_run_of(STABLE_SECONDS) == 0
    assert pauses.after_run_of(1.0) == 1
