"""TF-IDF with logistic regression, both as scikit-learn has them by default."""

from __future__ import annotations

from collections.abc import Sequence

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from benchmarks.quality.references.reading import arrays, tell, texts


def score(splits: Sequence[str]) -> float:
    """Accuracy on the test split of what was learnt from some splits."""
    seen = [text for split in splits for text in texts(split)]
    targets = [label for split in splits for label in arrays(split)["target"].tolist()]
    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000)).fit(seen, targets)
    return float(model.score(texts("test"), arrays("test")["target"].tolist()))


if __name__ == "__main__":
    # By the validation samples it chooses nothing, so it might as well learn from them: told beside.
    tell(score(["train"]), more=score(["train", "validation"]))
