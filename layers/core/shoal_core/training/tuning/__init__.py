"""Search: trials over recipes and hyperparameters, of which the better ones train on (successive halving)."""
