"""compose.yaml is loaded by Docker Compose's own library, and what it says is run, without an engine."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from ocr_wire import names
from tests.support import composed, inference, sandbox
from tests.support.composed import Composed
from tests.support.paths import ROOT
from tests.support.patience import PATIENCE
from tests.support.sandbox import Sandbox

IMAGE = sandbox.image(ROOT / "Dockerfile.inference")
FILES = ("compose.yaml", "compose.tokens.yaml")


@pytest.fixture(scope="module")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Composed:
    return composed.build(tmp_path_factory.mktemp("compose"))


@pytest.fixture
def container(compose: Composed, tmp_path: Path) -> Iterator[Sandbox]:
    """The container of the service `cpu`, with tokens."""
    service = compose.services(*FILES)["cpu"]
    assert service["read_only"]
    assert "user" not in service, "that of the image"
    [tmpfs] = service["tmpfs"]
    [volume] = service["volumes"]
    cache, secrets = tmp_path / "cache", tmp_path / "secrets"
    cache.mkdir()
    os.chown(cache, IMAGE.user, IMAGE.user)
    for command in commands("secrets"):
        subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    assert secrets.stat().st_mode & 0o777 == 0o700
    binds = {volume["target"]: cache}
    for secret in service["secrets"]:
        file = compose.secrets(*FILES)[secret["source"]]["file"]
        binds[secret["target"]] = tmp_path / Path(file).relative_to(ROOT)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    place, _, options = tmpfs.partition(":")
    assert place == "/tmp"
    tokens = {name: value for name, value in environment(service).items() if value is not None}
    with sandbox.of(IMAGE, tmp_path, tmpfs=options, binds=binds, environ={**tokens, "PORT": port}) as found:
        yield found


def commands(word: str) -> list[str]:
    """Commands of docs/standalone.md that have this word in them."""
    page = (ROOT / "docs" / "standalone.md").read_text(encoding="utf-8").replace("\\\n", "")
    return [line for line in re.findall(r"^\$ (.*)$", page, re.MULTILINE) if word in line]


def environment(service: dict[str, Any]) -> dict[str, str | None]:
    found: dict[str, str | None] = service["environment"]
    return found


def bearer(file: Path) -> dict[str, str]:
    return {"Authorization": f"Bearer {file.read_text().strip()}"}


def test_services_are_what_the_docs_say(compose: Composed) -> None:
    services = compose.services("compose.yaml")
    for name, service in services.items():
        assert service["profiles"] == [name]
        assert service["image"] == f"ocr-inference:{name}"
        assert service["build"]["dockerfile"] == "Dockerfile.inference"
        assert service["build"]["target"] == {"cpu": "cpu", "gpu": "cuda"}[name]
        assert service["cap_drop"] == ["ALL"]
        assert service["healthcheck"]["test"] == ["CMD", *IMAGE.healthcheck]
        assert service["stop_grace_period"] == "30s", "longer than OCR_DRAIN_SECONDS"
        [volume] = service["volumes"]
        assert volume["target"] == IMAGE.volume == IMAGE.environ[names.ENV_CACHE_DIR]
        [port] = service["ports"]
        assert (port["host_ip"], port["target"]) == ("127.0.0.1", IMAGE.port)
    [gpus] = services["gpu"]["deploy"]["resources"]["reservations"]["devices"]
    assert gpus["driver"] == "nvidia"
    assert {"gpu", "compute", "utility"} == set(gpus["capabilities"])
    assert "deploy" not in services["cpu"]
    assert environment(services["gpu"])["MODEL_NAME"] == "deepseek-ai/DeepSeek-OCR"


def test_the_shell_says_which_model_and_gpu_and_an_absent_variable_stays_absent(compose: Composed) -> None:
    told = compose.services("compose.yaml", MODEL_NAME="owner/model", CUDA_VISIBLE_DEVICES="1")["gpu"]
    assert environment(told)["MODEL_NAME"] == "owner/model"
    assert environment(told)["CUDA_VISIBLE_DEVICES"] == "1"
    untold = environment(compose.services("compose.yaml")["gpu"])
    assert untold.get("CUDA_VISIBLE_DEVICES") is None, "empty would hide every GPU"


def test_commands_of_the_docs_name_what_there_is(compose: Composed) -> None:
    found = commands("docker compose")
    assert len(found) >= 5
    services = compose.services("compose.yaml")
    assert {each for line in found for each in re.findall(r"--profile (\S+)", line)} == set(services)
    [files] = commands("COMPOSE_FILE")
    assert files == f"export COMPOSE_FILE={':'.join(FILES)}"
    runs = " ".join(commands("docker run"))
    assert f"-v ocr-cache:{IMAGE.volume}" in runs
    assert f"127.0.0.1:{IMAGE.port}:{IMAGE.port}" in runs


def test_with_tokens_other_machines_reach_it(compose: Composed) -> None:
    for service in compose.services(*FILES).values():
        [port] = service["ports"]
        assert "host_ip" not in port
        files = {secret["source"]: secret["target"] for secret in service["secrets"]}
        assert environment(service)[names.ENV_ADMIN_TOKEN_FILE] == files["admin-token"]
        assert environment(service)[names.ENV_API_KEYS_FILE] == files["api-keys"]


async def test_the_container_serves_is_healthy_and_drains(container: Sandbox) -> None:
    process = await asyncio.create_subprocess_exec(
        *container.command(*IMAGE.command), stderr=asyncio.subprocess.PIPE
    )
    try:
        url = await inference.url_of(process)
        check = await asyncio.to_thread(container.run, *IMAGE.healthcheck)
        assert (check.returncode, check.stdout) == (0, "ok\n"), check.stdout + check.stderr
        key, admin = (bearer(container.binds[f"/run/secrets/{name}"]) for name in ("api-keys", "admin-token"))
        page = (ROOT / "examples" / "invoice.png").read_bytes()
        async with aiohttp.ClientSession(url) as http:
            async with http.post("/ocr", data=inference.form(page)) as response:
                assert response.status == 401
            async with http.post("/ocr", data=inference.form(page), headers=key) as response:
                assert response.status == 200, await response.text()
                assert "Harbour Paper" in (await response.json())["text"]
            async with http.post("/gpu/offload", headers=key) as response:
                assert response.status in (401, 403)
            async with http.post("/gpu/offload", headers=admin) as response:
                assert response.status == 200
        # bubblewrap is the child; the server is number 1 below it, as Docker's signal finds it.
        os.kill(sandbox.child(process.pid), signal.SIGTERM)
        async with asyncio.timeout(PATIENCE):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    check = await asyncio.to_thread(container.run, *IMAGE.healthcheck)
    assert check.returncode == 1
    assert "Connection refused" in check.stdout


def test_a_container_whose_cache_is_anothers_says_so_before_any_page(container: Sandbox) -> None:
    os.chown(container.binds[IMAGE.volume], 0, 0)
    done = container.with_environ(MODEL_NAME="owner/model").run(*IMAGE.command)
    assert done.returncode == 2
    assert f"{IMAGE.volume} can't be written by user {IMAGE.user}" in done.stderr


def test_nothing_but_the_cache_and_tmp_can_be_written(container: Sandbox) -> None:
    folders = ("/", "/etc", "/usr", "/tmp", IMAGE.volume)
    looks = f"import json, os; print(json.dumps([d for d in {folders} if os.access(d, os.W_OK)]))"
    assert json.loads(container.run("python3", "-c", looks).stdout) == ["/tmp", IMAGE.volume]
