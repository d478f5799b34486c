"""What a process inherits."""

from ocr_inference.workers import processes


def test_no_secret_is_inherited_but_by_who_asks_a_hub() -> None:
    environ = {
        "HF_TOKEN": "t0ken-of-a-hub",
        "HTTPS_PROXY": "http://eve:passw0rd@proxy:3128",
        "http_proxy": "http://proxy:3128",
        "HF_ENDPOINT": "https://hub.example",
        "OCR_ADMIN_TOKEN_FILE": "/etc/ocr/admin/token",
        "AWS_SECRET_ACCESS_KEY": "s3cret-of-others",
        "PATH": "/usr/bin",
    }
    inherited = processes.environment(environ)
    assert {"http_proxy", "HF_ENDPOINT", "PATH"} <= set(inherited)
    assert not {"HF_TOKEN", "HTTPS_PROXY", "OCR_ADMIN_TOKEN_FILE", "AWS_SECRET_ACCESS_KEY"} & set(inherited)
    assert set(processes.secrets(environ)) == {"HF_TOKEN", "HTTPS_PROXY"}
