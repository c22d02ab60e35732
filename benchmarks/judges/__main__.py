"""`python -m benchmarks.judges SHARDS`: what the judges of others tell apart (tables.py)."""

from benchmarks.judges.tables import arguments, run

if __name__ == "__main__":
    raise SystemExit(run(arguments().parse_args()))
