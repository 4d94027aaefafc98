import sys

# A server of this machine, with its guard and its look into /proc, is for Linux; the client is for every system.
collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]
