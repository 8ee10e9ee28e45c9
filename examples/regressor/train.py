"""Trains the model of the boiler's gas. AutoRetrain runs it; see docs/training.md for what it gets."""

from sklearn.ensemble import HistGradientBoostingRegressor

from autoretrain import training_job

with training_job() as job:
    X, y = job.load()
    model = HistGradientBoostingRegressor(
        learning_rate=job.config["learning_rate"],
        max_iter=job.config["trees"],
        max_leaf_nodes=job.config["leaves"],
        random_state=0,
    )
    job.log_model(model.fit(X, y))
    job.log_metrics({"r2_on_training_rows": model.score(X, y)})  # for MLflow's pages; it decides nothing
