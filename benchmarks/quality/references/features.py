"""Logistic regression on what the same backbone makes of the images."""

from __future__ import annotations

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.quality.references.reading import arrays, tell

if __name__ == "__main__":
    train, test = arrays("train"), arrays("test")
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train["features"], train["target"])
    tell(model.score(test["features"], test["target"]))
