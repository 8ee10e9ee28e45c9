"""The training command of the replay: gradient boosting on whatever rows the job was given."""

from sklearn.ensemble import HistGradientBoostingClassifier

from autoretrain import training_job

with training_job() as job:
    X, y = job.load()
    job.log_model(HistGradientBoostingClassifier(**job.config).fit(X, y))
