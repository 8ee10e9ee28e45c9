"""Trains one agent of the fleet. AutoRetrain runs it, with the rows and the MLflow run in its environment."""

from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler

from autoretrain import training_job

with training_job() as job:
    X, y = job.load()
    model = make_pipeline(
        StandardScaler(),
        PolynomialFeatures(degree=job.config.get("degree", 2)),
        LogisticRegression(C=job.config.get("C", 1.0), max_iter=1000),
    )
    job.log_model(model.fit(X, y))
