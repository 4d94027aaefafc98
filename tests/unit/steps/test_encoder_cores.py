"""How many threads the encoder starts: the operator's number, or what affinity and control groups allow."""

from __future__ import annotations

import math
import os
from pathlib import Path

import pytest

from tests.support.encoder_step import load

(cores,) = load("cores")


def a_process(root: Path, cgroup: str, mounts: dict[str, tuple[str, str]], files: dict[str, str]) -> Path:
    """A /proc/self with a cgroup file, and mounts as {directory: (root, "kind source options")}; and limits."""
    lines = [
        f"3{i} 25 0:2{i} {top} {root / place} rw,relatime - {rest}"
        for i, (place, (top, rest)) in enumerate(mounts.items())
    ]
    (root / "mountinfo").write_text("\n".join(["22 1 0:19 / / rw - ext4 /dev/sda rw", *lines]) + "\n")
    (root / "cgroup").write_text(cgroup)
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


V2 = {"fs": ("/", "cgroup2 cgroup2 rw")}
V1 = {"fs/cpu": ("/", "cgroup cgroup rw,cpu,cpuacct"), "fs/memory": ("/", "cgroup cgroup rw,memory")}


@pytest.mark.parametrize(
    ("cgroup", "mounts", "files", "expected"),
    [
        ("0::/\n", V2, {"fs/cpu.max": "400000 100000\n"}, 4),
        ("0::/\n", V2, {"fs/cpu.max": "max 100000\n"}, math.inf),
        ("0::/\n", V2, {}, math.inf),
        ("0::/a/b\n", V2, {"fs/a/b/cpu.max": "max 100000", "fs/a/cpu.max": "150000 100000"}, 1.5),
        ("0::/a/b\n", V2, {"fs/a/b/cpu.max": "200000 100000", "fs/a/cpu.max": "800000 100000"}, 2),
        ("0::/a\n", V2, {"fs/a/cpu.max": "garbage"}, math.inf),
        ("4:cpu,cpuacct:/\n", V1, {"fs/cpu/cpu.cfs_quota_us": "-1", "fs/cpu/cpu.cfs_period_us": "100000"}, math.inf),
        ("4:cpu,cpuacct:/\n", V1, {"fs/cpu/cpu.cfs_quota_us": "250000", "fs/cpu/cpu.cfs_period_us": "100000"}, 2.5),
        (  # a container of version 1: the path is that of the host, of which the mount shows a part
            "4:cpu,cpuacct:/docker/0123\n",
            {"fs/cpu": ("/docker/0123", "cgroup cgroup rw,cpu,cpuacct")},
            {"fs/cpu/cpu.cfs_quota_us": "300000", "fs/cpu/cpu.cfs_period_us": "100000"},
            3,
        ),
        (  # a mount that does not say so
            "4:cpu,cpuacct:/docker/0123\n",
            {"fs/cpu": ("/elsewhere", "cgroup cgroup rw,cpu")},
            {"fs/cpu/cpu.cfs_quota_us": "300000", "fs/cpu/cpu.cfs_period_us": "100000"},
            3,
        ),
        ("4:cpu:/\n0::/\n", {**V1, "fs/unified": ("/", "cgroup2 cgroup2 rw")}, {"fs/unified/cpu.max": "5 5"}, 1),
        ("", {}, {}, math.inf),
    ],
)
def test_the_quota_is_the_least_of_the_groups_up_to_the_root(tmp_path, cgroup, mounts, files, expected):
    assert cores.quota(a_process(tmp_path, cgroup, mounts, files)) == expected


@pytest.mark.parametrize(("quota", "expected"), [("50000", 1), ("150000", 1), ("200000", 2), ("max", 4)])
def test_a_part_of_a_core_is_left_to_the_other_steps(tmp_path, monkeypatch, quota, expected):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    process = a_process(tmp_path, "0::/\n", V2, {"fs/cpu.max": f"{quota} 100000"})
    assert cores.available(process) == expected
    assert cores.threads(0, {}, process) == expected


def test_this_machine_has_a_core():
    assert 1 <= cores.available() <= len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("exported", "given", "expected"), [(3, None, 3), (3, "5", 5), (0, "7", 7), (3, "0", 3), (3, "", 3), (3, " 2 ", 2)]
)
def test_the_environment_goes_before_the_export(exported, given, expected):
    assert cores.threads(exported, {} if given is None else {"BERT_ENCODER_THREADS": given}) == expected


@pytest.mark.parametrize("given", ["four", "-1", "2.5", "1025", "٣", "9" * 5000])
def test_a_wrong_number_of_threads_is_an_error_that_says_what_it_takes(given):
    with pytest.raises(ValueError, match="BERT_ENCODER_THREADS is .*; it takes a number of threads up to 1024, or 0"):
        cores.threads(0, {"BERT_ENCODER_THREADS": given})
