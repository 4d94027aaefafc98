"""What is seen of a job's processes, and the picture of it."""

import subprocess
import sys

import pytest

from perf import plots
from perf.corpus.plot import draw
from perf.corpus.watch import ALL, Watch, _role, while_encoding
from perf.memory.samples import Samples
from tests.support.patience import wait_for

CHILDREN = "import subprocess, sys, time; [subprocess.Popen(['sleep', '600']) for _ in range(2)]; time.sleep(600)"


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_each_process_of_a_job_is_seen_and_those_alike_have_numbers():
    job = subprocess.Popen([sys.executable, "-c", CHILDREN])
    try:
        with Watch(job.pid, 0.01) as watch:
            wait_for(lambda: len(watch.samples().seconds) > 2 and "Ray's own 2" in watch.samples().mib)
    finally:
        for pid in watch.processes:
            if pid != job.pid:
                subprocess.run(["kill", str(pid)], check=False)
        job.kill()
        job.wait()
    samples = watch.samples()
    assert {*samples.mib} == {ALL, "the job", "Ray's own 1", "Ray's own 2"} == {ALL, *watch.processor_seconds()}
    assert {len(series) for series in samples.mib.values()} == {len(samples.seconds)}
    assert samples.mib[ALL][-1] >= samples.mib["the job"][-1] > 0


def test_a_job_that_ends_before_the_second_look_has_been_seen():
    job = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with Watch(job.pid, 600) as watch:
        wait_for(lambda: watch.samples().seconds)
        job.communicate(b"\n")
    assert len(watch.samples().seconds) == 1 and max(watch.samples().mib[ALL]) > 0


@pytest.mark.parametrize(
    ("command", "role"),
    [
        (["ray::MapWorker(MapBatches(Encode)).submit"], "encodes"),
        (["ray::_Counting"], "tally"),
        (["ray::ReadCorpus"], "reads, writes"),
        (["ray::_StatsActor"], "Ray's own"),
        (["ray::IDLE"], None),
        (["/x/raylet/raylet", "--raylet_socket_name=y"], "raylet"),
        (["python", "log_monitor.py"], None),
        ([], None),
    ],
)
def test_what_a_process_of_ray_does_is_what_it_calls_itself(command, role):
    assert _role(command) == role


def test_what_never_holds_much_is_not_drawn():
    samples = Samples([1.0, 2.0], {ALL: [100.0, 300.0], "encodes 1": [50.0, 90.0], "tally": [10.0, 11.0]})
    with plots.style():
        figure = draw(samples, 1000, "bert")
    labels = [line.get_label() for axes in figure.axes for line in axes.get_lines()]
    assert labels == [f"{ALL}: 300", "encodes 1: 90"]


def test_whether_memory_grows_is_seen_while_texts_are_encoded():
    seconds = [float(second) for second in range(8)]
    samples = Samples(seconds, {ALL: [*seconds], "encodes 1": [0, 0, 5, 6, 7, 8, 0, 0]})
    steady = while_encoding(samples)
    assert (steady.seconds, steady.mib["encodes 1"]) == ([3.0, 4.0, 5.0], [6, 7, 8])
    assert while_encoding(Samples([1.0], {ALL: [2.0]})).seconds == [1.0]
