"""Between HTTP and the models: batches, fairness, deadlines."""
