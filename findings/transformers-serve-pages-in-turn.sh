#!/usr/bin/env bash
# Guess: `transformers serve --continuous-batching` writes the answers of several requests together, whatever the model.
# What happens (transformers 5.23.0): of models that see pictures it doesn't. It warns once, in its log ("does not support
#   continuous batching. Falling back to sequential generation."), and then answers one request after the other: of 8
#   pages that are sent at once the last one waits for the seven before it. Requests to such a model without a picture
#   wait likewise. A model of texts with the same decoder answers all 8 at about the same time.
# Why it matters here: pages are what an OCR server gets. The option is not what makes pages fast, and who compares
#   servers by it compares with a server that reads one page at a time.
# Takes 5 GB for a while, and Python 3.11 or newer.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill $(jobs -p) 2> /dev/null || true; wait; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uv
"$folder/venv/bin/uv" pip install --quiet --python "$folder/venv/bin/python" "transformers[serving]==5.23.0" \
    torch==2.15.0 torchvision==0.29.2 pillow==13.0.0
cd "$folder"
export HOME="$folder" HF_HUB_OFFLINE=1
cat > make.py <<'PYTHON'
import json
import pathlib

import torch
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

decoder = {
    "vocab_size": 512, "hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 8,
    "num_attention_heads": 8, "num_key_value_heads": 2, "max_position_embeddings": 2048, "eos_token_id": 257,
    "pad_token_id": 256,
}
special = ["<pad>", "<end>", "<start>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
pictures = AutoConfig.for_model(
    "qwen2_5_vl",
    text_config={
        **decoder, "head_dim": 64,
        "rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 10000.0},
    },
    vision_config={
        "depth": 1, "hidden_size": 64, "out_hidden_size": 512, "intermediate_size": 64, "num_heads": 2,
        "fullatt_block_indexes": [0], "patch_size": 14, "window_size": 112,
    },
    image_token_id=261, video_token_id=262, vision_start_token_id=259, vision_end_token_id=260,
)
part = "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
for name, config, kind, template in (
    ("pictures", pictures, AutoModelForImageTextToText, "{% for part in messages[0].content %}" + part + "{% endfor %}"),
    ("texts", AutoConfig.for_model("qwen2", **decoder), AutoModelForCausalLM, "{{ messages[0].content }}"),
):
    folder = pathlib.Path(name)
    folder.mkdir()
    torch.manual_seed(0)
    kind.from_config(config).float().eval().save_pretrained(folder)
    bytes_ = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({each: number for number, each in enumerate(bytes_)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    tokenizer.save(str(folder / "tokenizer.json"))
    told = {"tokenizer_class": "Qwen2Tokenizer", "eos_token": "<end>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(told))
    (folder / "chat_template.jinja").write_text(template)
pixels = {
    "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor", "patch_size": 14,
    "temporal_patch_size": 2, "merge_size": 2, "min_pixels": 3136, "max_pixels": 50176,
}
pathlib.Path("pictures/preprocessor_config.json").write_text(json.dumps(pixels))
PYTHON
cat > ask.py <<'PYTHON'
import base64
import concurrent.futures
import io
import json
import sys
import time
import urllib.error
import urllib.request

from PIL import Image

model, port, together = sys.argv[1], sys.argv[2], sys.argv[3] == "together"
data = io.BytesIO()
Image.new("RGB", (112, 112), "white").save(data, "PNG")
picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()}}


def post(number):
    content = [{"type": "text", "text": f"w{number} w5 w6"}]
    if model == "pictures" and number % 2:
        content.append(picture)
    body = {"model": model, "messages": [{"role": "user", "content": content}], "max_tokens": 48, "temperature": 0.0}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=300) as answer:
        json.load(answer)
    return time.perf_counter()


for _ in range(1200):
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
        break
    except (urllib.error.URLError, OSError):
        time.sleep(0.1)
post(0), post(1)
began = time.perf_counter()
with concurrent.futures.ThreadPoolExecutor(8) as pool:
    seconds = sorted(end - began for end in pool.map(post, range(2, 10)))
print(f"{model}: answers of 8 requests after {', '.join(f'{each:.1f}' for each in seconds)} s")
spread = seconds[-1] / seconds[0]
sys.exit(0 if (spread < 2) is together else f"changed: the last took {spread:.1f} times as long as the first")
PYTHON
venv/bin/python make.py 2> errors || { tail -5 errors >&2; exit 1; }
venv/bin/python -c 'import importlib.metadata as it; print("transformers", it.version("transformers"))'
port=$(venv/bin/python -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
for model in pictures texts; do
    # By itself its cache takes more than half of the machine's memory.
    venv/bin/transformers serve "$model" --continuous-batching --host 127.0.0.1 --port "$port" \
        --cb-num-blocks 64 --cb-block-size 32 --cb-max-batch-tokens 256 > "$model.log" 2>&1 &
    venv/bin/python ask.py "$model" "$port" "$([ "$model" = texts ] && echo together || echo in turn)" || { tail -5 "$model.log" >&2; exit 1; }
    grep --only-matching --max-count 1 "[A-Za-z0-9_]* does not support.*" "$model.log" || echo "$model: no warning"
    kill %%
    wait || true
done
