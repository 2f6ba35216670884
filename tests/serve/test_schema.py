"""The service keeps what its OpenAPI document promises, whatever is sent: checked by schemathesis.

It is a program of its own and no dependency of ours; where it is not on the path the test is left out.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

N_EXAMPLES = 150
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,unsupported_method"
)


@pytest.mark.long
def test_the_openapi_document_is_kept(served: str, tmp_path: Path) -> None:
    program = os.environ.get("SCHEMATHESIS") or shutil.which("schemathesis")
    if program is None:
        pytest.skip("schemathesis is not here: pip install schemathesis, anywhere, or say where in $SCHEMATHESIS")
    words = [program, "run", f"{served}openapi.json", "--checks", CHECKS, "--max-examples", str(N_EXAMPLES),
             "--generation-deterministic", "--workers", "1", "--no-color"]  # fmt: skip
    run = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, timeout=500, check=False)
    assert run.returncode == 0, run.stdout[-6_000:] + run.stderr[-2_000:]
