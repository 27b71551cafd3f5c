"""LightGBM on the same columns, with as many trees as the validation samples ask for."""

from __future__ import annotations

from typing import Any

import lightgbm
import numpy as np
from sklearn.metrics import accuracy_score, r2_score, root_mean_squared_error

from benchmarks.quality.references.reading import arrays, asked, tell

TREES, PATIENCE, RATE = 3000, 100, 0.05


def features(part: dict[str, Any]) -> tuple[Any, list[int]]:
    """Numbers (NaN where missing) and codes of categories side by side, and which columns are codes."""
    columns = [part[name] for name in ("numbers", "categories") if name in part]
    table = np.concatenate([column.astype(np.float64) for column in columns], axis=1)
    codes = part["categories"].shape[1] if "categories" in part else 0
    return table, list(range(table.shape[1] - codes, table.shape[1]))


if __name__ == "__main__":
    data = {split: arrays(split) for split in ("train", "validation", "test")}
    told = asked()
    kind = lightgbm.LGBMRegressor if told["task"] == "regression" else lightgbm.LGBMClassifier
    inputs = {split: features(part) for split, part in data.items()}
    targets = {split: part["target"].reshape(-1) for split, part in data.items()}
    model = kind(n_estimators=TREES, learning_rate=RATE, random_state=told["seed"], n_jobs=1, verbose=-1)
    model.fit(
        inputs["train"][0],
        targets["train"],
        eval_set=[(inputs["validation"][0], targets["validation"])],
        categorical_feature=inputs["train"][1],
        callbacks=[lightgbm.early_stopping(PATIENCE, verbose=False)],
    )
    answers = model.predict(inputs["test"][0])
    if told["task"] == "regression":
        error = root_mean_squared_error(targets["test"], answers)
        tell(r2_score(targets["test"], answers), rmse=float(error), trees=model.best_iteration_)
    else:
        tell(accuracy_score(targets["test"], answers), trees=model.best_iteration_)
