"""Check of the night that `make night` has just run, and of its evaluation: it fails unless both are as expected."""

import json
import sys
from pathlib import Path


def last_json(path: Path) -> dict:
    """Return the JSON object on the last line of a file."""
    return json.loads(path.read_text().strip().splitlines()[-1])


def main(night: Path) -> None:
    """Check the summary, the page and the evaluation of a night folder."""
    summary, evaluation = last_json(night / "run.txt"), last_json(night / "evaluation.txt")
    counts = summary["exposures"]
    checks = {
        "six exposures seen and done": counts["seen"] == counts["done"] == 6,
        "counts reconcile": counts["seen"] == sum(counts[key] for key in ("done", "skipped", "quarantined", "failed")),
        "every cell searched": summary["windows"] == 6 * (3080 // 4) * (3072 // 4),
        "something found": summary["detections"] > 0,
        "synthetic streaks put in, and counted": summary["injection"] != []
        and all(one["n"] >= one["recovered"] for one in summary["injection"]),
        "page written": Path(summary["report"]).stat().st_size > 100_000,
        "six images evaluated": evaluation["images"] == 6,
        "completeness at S/N >= 10 is at least 0.8": evaluation["c10"] >= 0.8,
        # The threshold is set at 0.3 on other exposures; six images hold a few.
        "at most 1 false streak per image": evaluation["false_per_image"] <= 1.0,
    }
    for name, fine in checks.items():
        print("ok  " if fine else "FAIL", name)
    if not all(checks.values()):
        print(json.dumps(summary), json.dumps(evaluation), sep="\n")
        sys.exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
