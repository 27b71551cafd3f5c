"""Training in PyTorch, for SageMaker training jobs. Nothing else imports these modules, and no layer has torch."""
