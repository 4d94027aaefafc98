import sys
from importlib.util import find_spec

# A server of this machine, with its guard and its look into /proc, is for Linux; the client is for every system.
collect_ignore_glob = [] if sys.platform == "linux" else ["test_*.py"]
# Where the client is tested alone, nothing exports.
collect_ignore = [] if find_spec("onnxruntime") else ["test_served_repository.py"]
