"""How vLLM's server is started: its command and its environment, in one place, since both change with its versions."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ocr_inference.engines.vllm.asking import MODEL
from ocr_wire.redaction import is_secret

MODULE: Final = "vllm.entrypoints.openai.api_server"
"""By module: the script `vllm` looks for a distribution of that name, which the one for CPUs hasn't."""
SOCKET: Final = "server.sock"
LOGITS_PROCESSOR: Final = "vllm.model_executor.models.deepseek_ocr:NGramPerReqLogitsProcessor"
"""vLLM's own guard against loops, which a request switches on by `vllm_xargs`, with any model."""
GIB: Final = 1 << 30
_SMALL_FRACTION: Final = "0.02"
"""Of the GPU's memory that has to be free at the start. It isn't what is taken: that follows from `kv_cache_gib`."""
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH")
_KEPT_PREFIXES: Final = ("CUDA_", "NVIDIA_", "OMP_", "GOMP_", "MKL_", "PYTORCH_", "TORCH_", "NCCL_", "VLLM_")


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Arguments of a server's start."""

    python: str
    checkpoint: Path
    folder: Path
    """Its working folder, which no other user can enter; its socket is there."""
    cache: Path
    """Where it may keep what makes the next start faster."""
    device: str
    gpu_uuid: str | None
    dtype: str
    max_batch: int
    max_context: int
    """Tokens of prompt and answer; 0 for as many as the model has and the memory for them allows."""
    kv_cache_gib: float
    eager: bool
    threads: int
    """On a CPU."""
    says_normalisation: bool
    """Whether the checkpoint's files have the mean and the deviation of pixels."""


def sleeps(device: str) -> bool:
    """Whether its weights can leave the device and come back: by CUDA's virtual memory, which no other platform has."""
    return device == "cuda"


def command(start: Start) -> list[str]:
    """Return the command, whose working folder is `start.folder`."""
    words = [
        *(start.python, "-m", MODULE),
        *("--model", str(start.checkpoint), "--served-model-name", MODEL),
        *("--uds", SOCKET),  # a short name: a socket's whole path has 107 characters at most
        *("--dtype", start.dtype),
        *("--max-num-seqs", str(start.max_batch)),
        *("--max-model-len", str(start.max_context or -1)),
        *("--kv-cache-memory-bytes", str(int(start.kv_cache_gib * GIB))),
        *("--generation-config", "vllm"),  # none of the checkpoint's temperatures and penalties
        *("--logits-processors", LOGITS_PROCESSOR),
        # By itself it keeps pictures of up to 4 GiB in host memory; the same page rarely comes twice.
        *("--mm-processor-cache-gb", "0"),
        "--no-enable-log-requests",
        "--disable-uvicorn-access-log",
    ]
    if start.device == "cuda":
        words += ["--gpu-memory-utilization", _SMALL_FRACTION]
    if sleeps(start.device):
        words.append("--enable-sleep-mode")
    if start.eager or start.device != "cuda":
        words.append("--enforce-eager")
    if not start.says_normalisation:
        # By default vLLM 0.32 normalises pixels on the device by what the files say, and not at all where they leave it
        # to the defaults of the processor: the model then reads numbers to 255, without a word.
        words.append("--no-mm-device-do-normalize")
    return words


def environment(start: Start, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the server's environment, of what this process has in its own: no secrets, nothing of our Python."""
    passed = {
        name: value
        for name, value in environ.items()
        if (name in _KEPT or name.startswith(_KEPT_PREFIXES))
        and not ("KEY" in name or "TOKEN" in name or is_secret(name, value))
    }
    cache = str(start.cache)
    chosen = {
        "HOME": cache,
        "TMPDIR": str(start.folder),
        "XDG_CACHE_HOME": cache,
        "VLLM_CACHE_ROOT": f"{cache}/vllm",
        "TRITON_CACHE_DIR": f"{cache}/triton",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/inductor",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "PYTHONUNBUFFERED": "1",
    }
    if sleeps(start.device):
        chosen["VLLM_SERVER_DEV_MODE"] = "1"  # without it there are no calls for sleep
        chosen |= {"CUDA_VISIBLE_DEVICES": start.gpu_uuid} if start.gpu_uuid else {}
    else:
        chosen["CUDA_VISIBLE_DEVICES"] = ""
    if start.device != "cuda":
        # Not bound to cores: by itself it takes cores of the machine, whatever the container's quota is.
        chosen |= {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "OMP_NUM_THREADS": str(start.threads)}
    return passed | chosen
