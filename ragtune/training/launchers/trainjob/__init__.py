"""A run's processes on nodes of a cluster, as a TrainJob of Kubeflow Trainer."""
