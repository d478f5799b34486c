"""The files of examples/standalone that no proxy loads: a service of systemd, a parser of log lines, a scrape."""

import logging
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from ocr_inference import logs
from tests.support.paths import ROOT

EXAMPLES = ROOT / "examples" / "standalone"
PAGE = (ROOT / "docs" / "standalone.md").read_text(encoding="utf-8")


def test_systemd_knows_each_key_of_the_service(tmp_path: Path) -> None:
    if (program := shutil.which("systemd-analyze")) is None:
        pytest.skip("no systemd-analyze here")
    text = (EXAMPLES / "ocr-inference.service").read_text()
    command = "/opt/ocr-inference/bin/ocr-inference"
    assert f"ExecStart={command} serve\n" in text
    commented = re.findall(r"^#(\w+=.*)$", text, re.MULTILINE)
    assert len(commented) == 3, "of tokens"
    for name, service in (("plain", text), ("tokens", text.replace("#Load", "Load").replace("#Env", "Env"))):
        file = tmp_path / f"{name}.service"
        file.write_text(service.replace(command, shutil.which("true") or "/bin/true"))
        done = subprocess.run([program, "verify", file], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_the_parser_takes_log_lines_apart() -> None:
    conf = (EXAMPLES / "fluent-bit-parsers.conf").read_text()
    [pattern] = re.findall(r"^ +regex +(.+)$", conf, re.MULTILINE)
    # Ruby's groups, which Fluent Bit has, are Python's but for one letter.
    parser = re.compile(pattern.replace("(?<", "(?P<"))
    record = logging.makeLogRecord(
        {
            "name": "ocr_inference.access",
            "levelname": "INFO",
            "msg": "method=%s",
            "args": ("GET",),
            "model": "m",
        }
    )
    found = parser.match(logs.Formatter().format(record))
    assert found is not None
    assert found["level"] == "INFO"
    assert found["logger"] == "ocr_inference.access"
    assert found["message"] == "method=GET model=m"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", found["time"])
    assert "parsers_file  fluent-bit-parsers.conf" in (EXAMPLES / "fluent-bit.conf").read_text()


def test_prometheus_scrapes_each_server_by_itself() -> None:
    file = EXAMPLES / "prometheus.yml"
    [job] = yaml.safe_load(file.read_text())["scrape_configs"]
    assert "metrics_path" not in job, "/metrics is what Prometheus asks by itself"
    [targets] = [each["targets"] for each in job["static_configs"]]
    upstreams = re.findall(r"to (.+)", (EXAMPLES / "Caddyfile").read_text())
    assert targets == upstreams[0].split()
    if (promtool := shutil.which("promtool")) is not None:
        subprocess.run([promtool, "check", "config", file], check=True)


def test_the_page_names_each_file() -> None:
    for file in EXAMPLES.iterdir():
        assert f"../examples/standalone/{file.name}" in PAGE
