"""Packs the handwritten digits that `fovea suite make` draws on its cards: src/suite/digits.bin.

Source: Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning Repository
(CC BY 4.0), in the copy that scikit-learn ships (load_digits): 1,797 pictures of 8 x 8 pixels, values 0 to 16.
Layout: per picture one byte of label and 32 bytes of pixels, two to a byte, the first in the low half; 16 becomes 15.

    pip install scikit-learn==1.7.2 && python tools/make_suite_digits.py
"""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

digits = load_digits()
pixels = np.minimum(digits.data, 15).astype(np.uint8)
packed = pixels[:, 0::2] | pixels[:, 1::2] << 4
records = np.concatenate([digits.target.astype(np.uint8)[:, None], packed], axis=1)
out = Path(__file__).resolve().parent.parent / "src/suite/digits.bin"
out.write_bytes(records.tobytes())
print(f"{len(records)} digits, {out.stat().st_size} bytes: {out}")
