"""What scanners find in the code, in the repository and in the locked packages.

`make audit` runs it; `--update` writes the baseline of known secrets anew, to be read before it is
committed. Exit status 1: something was found.

- bandit over the product. An exception stands in its line with its reason, as `# noqa: S608 (why)`:
  ruff's rules S are bandit's under the same numbers, so one comment serves both. For rules that
  ruff lacks it is `# nosec B615 (why)`.
- detect-secrets over every file of the repository, against `secrets.baseline`, which names the
  test values that look like secrets by file, kind and hash.
- pip-audit over the locks, where the advisory service can be reached.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
from detect_secrets import SecretsCollection
from detect_secrets.settings import default_settings

_ROOT = Path(__file__).resolve().parents[2]
_BASELINE = _ROOT / "infra/security/secrets.baseline"
_ADVISORIES = "https://pypi.org/pypi/pip/json"
_LOCKS = ("infra/locks/embedded.txt", "infra/locks/qwen.txt")  # they hold all that others do
_BIN = Path(sys.executable).parent
# Published hashes of published packages, and public prints of secrets.
_NOT_SCANNED = re.compile(r"infra/(locks/.*\.txt|security/secrets\.baseline)")


def _run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=False)  # noqa: S603 (ours)


def code() -> list[str]:
    """Return bandit's findings that no line explains."""
    config = _ROOT / "infra/security/bandit.yaml"
    report = json.loads(
        _run(_BIN / "bandit", "-q", "-c", config, "-f", "json", "-r", "services", "planes").stdout
    )
    return [
        f"{each['filename']}:{each['line_number']}: {each['test_id']} {each['issue_text']}"
        for each in report["results"]
        if not _is_explained(each)
    ]


def _is_explained(finding: dict[str, Any]) -> bool:
    lines = (_ROOT / str(finding["filename"])).read_text().splitlines()
    rule = str(finding["test_id"]).replace("B", "S", 1)
    comment = re.compile(rf"# noqa: [A-Z0-9, ]*\b{rule}\b[A-Z0-9, ]*[(-] ?\w")
    return any(comment.search(lines[number - 1]) for number in finding["line_range"])


def secrets() -> list[str]:
    """Return what looks like a secret in the repository: file, kind and hash."""
    listed = _run("git", "ls-files", "-co", "--exclude-standard").stdout.splitlines()
    found = SecretsCollection()
    with default_settings():
        for name in listed:
            if _NOT_SCANNED.fullmatch(name) is None and (_ROOT / name).is_file():
                found.scan_file(str(_ROOT / name))
    return sorted(
        {
            f"{Path(name).relative_to(_ROOT)} {secret.type.replace(' ', '-')} {secret.secret_hash}"
            for name, secret in found
        }
    )


def packages() -> list[str]:
    """Return the locked packages with known holes; none where nobody can be asked."""
    try:
        httpx.get(_ADVISORIES, timeout=5).raise_for_status()
    except httpx.HTTPError as error:
        _say(f"!!! pip-audit: the advisory service is not reachable ({type(error).__name__}):")
        _say("!!! NOT AUDITED: the locked packages. Run `make audit` where it is.")
        return []
    findings, unknown = set(), set()
    for lock in _LOCKS:
        audit = _run(
            *(_BIN / "pip-audit", "--disable-pip", "--require-hashes", "-f", "json"), "-r", lock
        )
        for package in json.loads(audit.stdout)["dependencies"]:
            if "skip_reason" in package:
                unknown.add(package["name"])
            else:
                known = (
                    f"{package['name']} {package['version']}: {hole['id']}"
                    for hole in package["vulns"]
                )
                findings.update(known)
    if unknown:
        _say(f"!!! pip-audit: NOT AUDITED, the service knows nothing of {len(unknown)} packages")
    return sorted(findings)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")


def main() -> int:
    """Run the scanners and say what they found."""
    looks_secret = secrets()
    if "--update" in sys.argv:
        _BASELINE.write_text("\n".join(looks_secret) + "\n")
    known = set(_BASELINE.read_text().splitlines()) if _BASELINE.exists() else set()
    parts = {
        "bandit": code(),
        "detect-secrets": [each for each in looks_secret if each not in known],
        "pip-audit": packages(),
    }
    for name, findings in parts.items():
        _say(f"{name}: {len(findings)} findings")
        for finding in findings:
            _say(f"  {finding}")
    return int(any(parts.values()))


if __name__ == "__main__":
    sys.exit(main())
