"""SageMaker training jobs of the embedded cloud: checked as AWS does, kept by moto, run as processes."""
