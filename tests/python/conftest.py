"""What the tests of the Python package share: the demo model, small suites, and tiny models of random weights."""

import os
import subprocess
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent.parent
DEMO = ROOT / "models" / "fovea-demo"
PROGRAM = os.environ.get("FOVEA_PROGRAM", str(ROOT / "build" / "fovea"))
torch.set_num_threads(int(os.environ.get("FOVEA_TEST_THREADS", "1")))  # the machine's cores are shared


@pytest.fixture(scope="session")
def compiled():
    """The compiled part; where it is not installed its tests are left out, unless FOVEA_REQUIRE_COMPILED says that it is."""
    try:
        from fovea import _fovea
    except ImportError as error:
        if os.environ.get("FOVEA_REQUIRE_COMPILED"):
            raise
        pytest.skip(f"the compiled part is not installed: {error}")
    return _fovea


@pytest.fixture(scope="session")
def program():
    """The built program, for the audit that a probe is compared with."""
    assert os.access(PROGRAM, os.X_OK), f"{PROGRAM} is not built: cmake --build build --target fovea, or set FOVEA_PROGRAM"
    return PROGRAM


@pytest.fixture(scope="session")
def suite(program, tmp_path_factory):
    """A folder of questions over several cards, made by the program."""
    folder = tmp_path_factory.mktemp("suites") / "multi-image"
    subprocess.run([program, "suite", "make", "--kind", "multi-image", "--count", "60", "--seed", "31337", "--out", str(folder)], check=True,
                   capture_output=True)
    return folder


@pytest.fixture(scope="session")
def demo():
    import transformers
    return transformers.Qwen2_5_VLForConditionalGeneration.from_pretrained(DEMO, dtype=torch.bfloat16).eval()


@pytest.fixture(scope="session")
def demo_processor():
    from fovea.probe import PillowProcessor
    return PillowProcessor(DEMO)


def slow_rope():
    """Rotary pairs so slow that a planted key is the same for every position, and so is its rounding."""
    import transformers
    theta = 1e9
    if transformers.__version__.startswith("4."):
        return {"rope_theta": theta}
    return {"rope_parameters": {"rope_type": "default", "rope_theta": theta}}


def plant_key_bias(attention, size):
    """A constant key in the slow rotary pairs, and queries along it: it cancels in exact softmax, and moves every score
    to where 16 bits are coarse."""
    dim, half = attention.head_dim, attention.head_dim // 2
    slow = list(range(half - 2, half))
    for projection, value in ((attention.k_proj, size), (attention.q_proj, 40.0)):
        if projection.bias is None:
            projection.bias = torch.nn.Parameter(torch.zeros(projection.out_features, dtype=projection.weight.dtype))
        with torch.no_grad():
            for head in range(projection.out_features // dim):
                for pair in slow:
                    projection.bias[head * dim + pair] = value
                    # What varies along the planted channels would be content, not bias.
                    projection.weight[head * dim + pair] = 0
                    projection.weight[head * dim + pair + half] = 0


@pytest.fixture
def tiny_llama():
    import transformers
    torch.manual_seed(5)
    config = transformers.LlamaConfig(vocab_size=97, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
                                      num_key_value_heads=2, max_position_embeddings=512, attention_bias=True, bos_token_id=1, eos_token_id=2,
                                      pad_token_id=0, initializer_range=0.3, **slow_rope())
    model = transformers.LlamaForCausalLM(config).eval()
    return model
