"""Check what an installation brings: the agent no torch, the contract pydantic alone.

Asks pip to resolve, without installing, in this interpreter's version.
"""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NEVER_ON_A_STATION = {
    *("torch", "torchvision", "timm", "scikit-learn", "onnx", "opencv-python"),
    "cryptography",  # it verifies without, and signs nothing
}
CONTRACT_BRINGS = {
    "ssn-inspect",
    "pydantic",
    "pydantic-core",
    "annotated-types",
    "typing-extensions",
    "typing-inspection",
}


def resolved(extras: str) -> set[str]:
    """Return the names of all distributions that pip would install."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
    command += ["--report", "-", "-c", str(ROOT / "constraints.txt"), f"{ROOT}{extras}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"pip cannot resolve {extras or 'the contract'}:\n{done.stderr}")
    report = json.loads(done.stdout)
    return {item["metadata"]["name"].lower().replace("_", "-") for item in report["install"]}


def main() -> None:
    """Exit with 1 and a line a fault."""
    faults = []
    for extras in ("[agent,cpu]", "[agent,cpu,openvino,http]"):
        agent = resolved(extras)
        if foreign := agent & NEVER_ON_A_STATION:
            faults.append(f".{extras} brings {', '.join(sorted(foreign))}")
        print(f"packaging: .{extras} brings {len(agent)} distributions")
    if extra := resolved("") - CONTRACT_BRINGS:
        faults.append(f"the contract alone brings {', '.join(sorted(extra))}")
    if faults:
        sys.exit("\n".join(faults))
    print("packaging: no torch among them")


if __name__ == "__main__":
    main()
