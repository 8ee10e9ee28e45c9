"""Trains on a table of numbers, texts and gaps. AutoRetrain runs it, with the rows in its environment."""

from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OrdinalEncoder

from autoretrain import training_job

KINDS = {"classification": HistGradientBoostingClassifier, "regression": HistGradientBoostingRegressor}

with training_job() as job:
    X, y = job.load()
    texts = make_column_transformer(
        (
            OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
            make_column_selector(dtype_include=["object", "string", "category"]),
        ),
        remainder="passthrough",
    )
    boosting = KINDS[job.config["task"]](max_iter=job.config.get("max_iter", 60), random_state=0)
    job.log_model(make_pipeline(texts, boosting).fit(X, y))
