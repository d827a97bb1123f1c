"""What every test run says about itself."""

from __future__ import annotations

from pathlib import Path

import lstmcore


def pytest_report_header() -> str:
    info = lstmcore.build_info()
    where = Path(lstmcore.__file__).parent
    return f"lstmcore {info['version']} from {where}, engine {info['isa']} (built: {', '.join(info['isas_built'])})"
