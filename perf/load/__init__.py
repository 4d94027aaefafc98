"""`python -m perf load`: latency and throughput under perf_analyzer."""
