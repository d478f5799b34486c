import base64
import csv
import io
import json
import subprocess
from pathlib import Path

import pytest

from devcluster.controlplane import access


def test_every_user_has_a_token_of_its_own() -> None:
    users = access.users(["gpu-a", "gpu-b"])
    assert len({user.token for user in users.values()}) == len(users) == 5
    assert users[access.ADMIN].groups == ("system:masters",)
    assert (users["gpu-a"].name, users["gpu-a"].groups) == ("system:node:gpu-a", ("system:nodes",))


def test_tokens_stay_out_of_representations() -> None:
    user = access.users([])[access.ADMIN]
    assert user.token not in repr(user)


def test_the_token_file_is_the_csv_that_the_api_server_reads() -> None:
    users = {"x": access.User("x", ("a", "b"), "token-1"), "y": access.User("y", (), "token-2")}
    rows = list(csv.reader(io.StringIO(access.token_file(users))))
    assert rows == [["token-1", "x", "x", "a,b"], ["token-2", "y", "y", ""]]


def test_a_kubeconfig_needs_no_other_file() -> None:
    user = access.User("x", (), "secret")
    config = json.loads(access.kubeconfig("https://127.10.0.1:6443", b"PEM", user))
    assert config["users"] == [{"name": "x", "user": {"token": "secret"}}]
    cluster = config["clusters"][0]["cluster"]
    assert cluster["server"] == "https://127.10.0.1:6443"
    assert base64.b64decode(cluster["certificate-authority-data"]) == b"PEM"
    [context] = config["contexts"]
    assert config["current-context"] == context["name"]
    assert context["context"] == {"cluster": config["clusters"][0]["name"], "user": "x"}


def test_the_signing_key_is_a_fresh_p256_key_in_valid_der() -> None:
    first, second = access.signing_key(), access.signing_key()
    assert first != second
    header, body, footer = first.strip().split("\n")
    assert (header, footer) == ("-----BEGIN EC PRIVATE KEY-----", "-----END EC PRIVATE KEY-----")
    der = base64.b64decode(body)
    assert (der[0], der[1]) == (0x30, len(der) - 2)


def test_openssl_reads_the_signing_key(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_text(access.signing_key())
    try:
        read = subprocess.run(
            ["openssl", "ec", "-in", key, "-noout", "-text"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("openssl isn't installed")
    assert read.returncode == 0, read.stderr
    assert "prime256v1" in read.stdout
