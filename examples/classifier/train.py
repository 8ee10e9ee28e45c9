"""Trains the classifier of steam traps. AutoRetrain runs it; see docs/training.md for what it gets."""

from sklearn.compose import make_column_transformer
from sklearn.ensemble import RandomForestClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from autoretrain import training_job

with training_job() as job:
    X, y = job.load()
    # Whatever prepares the features belongs to the model: predictions get the same columns as the training.
    prepare = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["trap_type"]), remainder="passthrough"
    )
    forest = RandomForestClassifier(
        n_estimators=job.config["trees"], min_samples_leaf=job.config["leaf"], random_state=0
    )
    # The pipeline has predict_proba, so class scores are kept beside the classes: ROC-AUC needs them.
    job.log_model(make_pipeline(prepare, forest).fit(X, y))
