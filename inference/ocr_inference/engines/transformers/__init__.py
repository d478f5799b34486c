"""Vision-language models by transformers and torch, without remote code.

- `engine`: the engine: pages in, text out.
- `page`: a page in the engine, and its size by free memory.
- `checkpoints`: from a folder to model, processor and family, without weights.
- `configs`: config.json, checked.
- `architecture`: models on `meta`.
- `chatting`: processors and prompts of chat models.
- `inputs`: from a page to tensors.
- `joining`: arguments of several pages as those of one pass.
- `vision`: pictures of several pages through the vision tower.
- `features`: what the tower made of pictures lately.
- `generation`: greedy writing of several pages.
- `positions`: positions of models whose pictures take fewer of them than tokens.
- `slots`: keys and values of several pages.
- `text`: text of an answer while it is written.
- `loading`: weights from source to host tier and device.
- `rehearsal`: the first page ahead of the first page.
- `sharing`: weights that the servers of a node have in memory once.
- `torchweights`: a model bound to a flat buffer.
- `devices`: flat buffers on devices.
- `packing`: second copies of weights, laid out for a CPU.
- `packedlayers`: how layers compute with them.
- `errors`: torch's errors, as failures.
- `memory`: torch's caches, and what a device has.
"""
