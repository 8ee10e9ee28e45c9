"""Trains heat_predictor_v2. AutoRetrain runs it, with the rows and the MLflow run in its environment."""

from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from autoretrain import training_job

with training_job() as job:
    X, y = job.load()
    network = MLPClassifier(
        hidden_layer_sizes=(16,),
        learning_rate_init=job.config.get("learning_rate", 0.001),
        batch_size=job.config.get("batch_size", 32),
        max_iter=job.config.get("epochs", 50),
        random_state=0,
    )
    job.log_model(make_pipeline(StandardScaler(), network).fit(X, y))
