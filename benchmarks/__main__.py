"""Run of every comparison, one after the other; each writes its section of the docs: ``python -m benchmarks``."""

import subprocess
import sys

SECTIONS = ("bench_windows", "bench_quadrant", "bench_streaks", "bench_scaling")


def main():
    """Run the sections in processes of their own, with the arguments given."""
    for section in SECTIONS:
        subprocess.run([sys.executable, "-m", f"benchmarks.{section}", *sys.argv[1:]], check=True)


if __name__ == "__main__":
    main()
