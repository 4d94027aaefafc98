from importlib.util import find_spec

if find_spec("ray") is None:  # where the client is tested alone
    collect_ignore_glob = ["test_*.py"]
