"""Program that says what torch can do here, as one line of JSON.

It is a process of its own, since one that has asked CUDA holds memory of the GPU until it ends. `ocr-inference check`
runs it, with the GPU to ask in `CUDA_VISIBLE_DEVICES`.
"""

import contextlib
import importlib.metadata
import json
import sys


def main() -> None:
    # What libraries print belongs to no answer.
    with contextlib.redirect_stdout(sys.stderr):
        found = asked()
    print(json.dumps(found))


def asked() -> dict[str, object]:
    """Return the document; its `problem` says why torch can't be used."""
    found: dict[str, object] = {
        "transformers": _version("transformers"),
        "flash_attention": _version("flash-attn"),
    }
    try:
        import torch  # noqa: PLC0415 here its failure is an answer

        found |= {"version": torch.__version__, "cuda_version": torch.version.cuda}
        if torch.version.cuda is not None and torch.cuda.device_count():
            # A build may lack this GPU's kernels, which only running one shows.
            found["computes_on_gpu"] = bool((torch.ones(1, device="cuda") + 1 == 2).item())
    except Exception as error:  # noqa: BLE001 a damaged installation or driver raises anything
        found["problem"] = f"torch can't be used: {type(error).__name__}: {error}"[:500]
    return found


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
