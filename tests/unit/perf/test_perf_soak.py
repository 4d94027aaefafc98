"""Everything at once: what ends a kind of traffic."""

import threading
from collections import Counter

from perf.soak.traffic import FAILED, SoakTraffic


def test_a_kind_of_traffic_that_ends_early_has_failed():
    def work():
        raise ConnectionRefusedError("nobody is there")

    traffic = SoakTraffic.__new__(SoakTraffic)
    traffic.counts, traffic.first_errors, traffic._lock = Counter(), {}, threading.Lock()
    traffic._work("load and unload", work)
    assert traffic.counts == {("load and unload", FAILED): 1}
    assert traffic.first_errors == {"load and unload": "ConnectionRefusedError('nobody is there')"}
