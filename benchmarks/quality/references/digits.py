"""A support vector machine on pixels, as in scikit-learn's own example of these digits."""

from __future__ import annotations

import numpy as np
from sklearn.svm import SVC

from benchmarks.quality.references.reading import arrays, tell

if __name__ == "__main__":
    # The example's pixels go from 0 to 16.
    data = {split: arrays(split) for split in ("train", "validation", "test")}
    pixels = {split: part["image"].reshape(len(part["image"]), -1) / 255.0 * 16.0 for split, part in data.items()}
    targets = {split: part["target"] for split, part in data.items()}
    model = SVC(gamma=0.001).fit(pixels["train"], targets["train"])
    # By the validation samples it chooses nothing, so it might as well learn from them: told beside.
    both = (np.concatenate([part["train"], part["validation"]]) for part in (pixels, targets))
    more = SVC(gamma=0.001).fit(*both).score(pixels["test"], targets["test"])
    tell(model.score(pixels["test"], targets["test"]), more=float(more))
