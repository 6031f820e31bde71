"""From labelled feature rows to one trained, calibrated model with a policy, and to its evaluation.

Belongs here: the order of the steps, and which part of the data each may see. Must not be here: the steps themselves
(`dataset`, `tuning`, `model_directory`, `policy.choice`, `evaluation`), files, orchestration.

The train part fits the trees; tune chooses hyper-parameters and stops early. All parts before the test, scored by trees
that did not see their customers, set probabilities and policy. Test is only evaluated. The evaluated model is the
shipped model: nothing is fitted afterwards.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandera.pandas import Check, Column, DataFrameSchema

from fraud_pipeline.features.config import FeatureConfig
from fraud_pipeline.features.definitions import features_schema
from fraud_pipeline.features.engineer import FEATURE_NAMES, FeatureEngineer
from fraud_pipeline.features.own_inputs import FIXED_INPUTS, fit_own_inputs
from fraud_pipeline.modeling.dataset import PART_NAMES, PartName, Split, labels_as_of, time_ordered_split
from fraud_pipeline.modeling.evaluation import Evaluation, evaluate
from fraud_pipeline.modeling.fitting import LabelledRows
from fraud_pipeline.modeling.metrics import effective_number
from fraud_pipeline.modeling.model_directory import Calibration, FraudModel, fit_booster, fit_calibration
from fraud_pipeline.modeling.out_of_fold import contradicted, out_of_fold_margins
from fraud_pipeline.modeling.plain_model import fit_plain_model, row_columns
from fraud_pipeline.modeling.tuning import TuningResult, tune
from fraud_pipeline.policy.choice import PolicyReport, PolicyRows, choose_policy
from fraud_pipeline.policy.decisions import CostModel, Policy, PolicyKind
from fraud_pipeline.schema.joins import rows_of
from fraud_pipeline.schema.own_fields import OwnField, own_column, with_own_columns
from fraud_pipeline.schema.transactions import DAY, TRANSACTIONS, microseconds

REFERENCE_ROWS: Final = 20_000
MIN_CATEGORY_ROWS: Final = 20
"""Rows of the train part that a category needs to be known to the model; others are missing."""
NEVER: Final = Policy(review_threshold=np.inf, block_threshold=np.inf)
AMOUNT_BANDS_CENTS: Final = (0, 10_00, 50_00, 200_00, 1_000_00)


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """The bank's requirements for decisions: costs, the least precision of blocks, alerts per day that people can
    review, and whether the amount decides, too.
    """

    costs: CostModel
    precision_floor: float
    alert_budget_per_day: float
    decides_by: PolicyKind = "expected_cost"


@dataclass(frozen=True, slots=True)
class TuningSettings:
    """The budget of the search for hyper-parameters."""

    n_trials: int
    seed: int
    timeout: timedelta | None = None
    workers: int = 1
    journal: Path | None = None


@dataclass(frozen=True)
class TrainedModel:
    """The model, the plain model beside it, and the results of its tuning and of the choice of its policy.

    `policy_rows` are the rows on which the policy was chosen.
    """

    model: FraudModel
    plain: FraudModel
    tuning: TuningResult
    policy_report: PolicyReport
    policy_rows: PolicyRows


def build_training_set(
    features: pd.DataFrame,
    transactions: pd.DataFrame,
    reports: pd.DataFrame,
    *,
    as_of: pd.Timestamp,
    label_maturity: timedelta,
    gap: timedelta,
    warm_up: timedelta,
    own_fields: Sequence[OwnField] = (),
) -> tuple[pd.DataFrame, Split]:
    """Feature rows with their label as known at `as_of`, and the part of each row; also the split.

    Columns: transaction_id, event_time, customer_id, amount_cents, channel, label, part, then the features, then the
    fixed and own fields that a model sees as they are. Own ones may be absent in `transactions`.
    Raises SplitError when the data are too short or hold too little fraud, and JoinError when a transaction is missing
    or repeated.
    """
    context = rows_of(transactions, features["transaction_id"], table="transactions")
    labels = labels_as_of(context, reports, as_of=as_of, label_maturity=label_maturity)
    split = time_ordered_split(
        microseconds(context["event_time"]),
        labels,
        as_of=as_of,
        label_maturity=label_maturity,
        gap=gap,
        warm_up=warm_up,
    )
    part = np.full(len(context), "", dtype=object)
    for name in PART_NAMES:
        part[split.rows(name)] = name
    described = context[["transaction_id", "event_time", "customer_id", "amount_cents", "channel"]]
    described = described.assign(label=labels, part=part)
    rows = np.flatnonzero(part != "")
    values = features.loc[:, list(FEATURE_NAMES)]
    raw = with_own_columns(context, own_fields)[[*FIXED_INPUTS, *(own.name for own in own_fields)]]
    return pd.concat([frame.iloc[rows].reset_index(drop=True) for frame in (described, values, raw)], axis=1), split


def training_set_schema(own: Sequence[OwnField] = ()) -> DataFrameSchema:
    """Pandera schema of the training set: a labelled row of a part, its features, and what a model sees as it is."""
    features = dict(features_schema().columns)
    described = {name: TRANSACTIONS.columns[name] for name in ("customer_id", "amount_cents", "channel")}
    labelled = {"label": Column("float64", Check.isin([0, 1])), "part": Column(str, Check.isin(PART_NAMES))}
    keys = {name: features.pop(name) for name in ("transaction_id", "event_time")}
    raw = {name: TRANSACTIONS.columns[name] for name in FIXED_INPUTS} | {field.name: own_column(field) for field in own}
    return DataFrameSchema(
        {**keys, **described, **labelled, **features, **raw}, strict=True, ordered=True, name="training_set"
    )


def train_model(
    training_set: pd.DataFrame,
    *,
    tuning: TuningSettings,
    policy: PolicySettings,
    feature_config: FeatureConfig,
    lineage: Mapping[str, Any],
    own_fields: Sequence[OwnField] = (),
    personal_key: str = "",
    on_trial: Callable[[int, float], None] | None = None,
) -> TrainedModel:
    """Search, fit, calibrate and choose thresholds; the test part is read only for the drift reference.

    `feature_config` is the configuration of the training set's features; the model's has own inputs beside, which the
    train part decides. `own_fields` are those of the training set; `personal_key` is the id of the key of their
    pseudonyms.
    """
    parts = {name: training_set[training_set["part"] == name] for name in PART_NAMES}
    own_inputs = fit_own_inputs(parts["train"], own_fields, min_count=MIN_CATEGORY_ROWS)
    config = replace(feature_config, own_inputs=replace(own_inputs, personal_key=personal_key))
    train, tune_on = (_labelled(parts[name], config) for name in ("train", "tune"))
    result = tune(
        train=train,
        tune_on=tune_on,
        n_trials=tuning.n_trials,
        seed=tuning.seed,
        plain=row_columns(config),
        timeout=tuning.timeout,
        workers=tuning.workers,
        journal=tuning.journal,
        # A search with another number of trials is another study, so that its trials do not influence this one.
        study_name=f"{lineage.get('data_sha256', 'study')}-seed-{tuning.seed}-trials-{tuning.n_trials}",
        on_trial=on_trial,
    )
    # The best trial was not fitted on the newest labelled days; the shipped trees are.
    newest = pd.concat([parts["train"], parts["tune"]])
    fit_on = _labelled(newest, config).of(result.columns)
    booster = fit_booster(
        fit_on.features,
        fit_on.labels,
        parameters=result.parameters,
        rounds=result.rounds,
        seed=tuning.seed,
        feature_types=fit_on.feature_types,
    )
    calibrate = parts["calibrate"]
    raw = FraudModel(
        booster=booster,
        features=result.columns,
        feature_config=config,
        calibration=Calibration(),
        policy=NEVER,
    )
    # The calibrate part alone holds few frauds; out of fold, the rows behind the trees can be judged, too.
    behind = out_of_fold_margins(fit_on, parameters=result.parameters, rounds=result.rounds, seed=tuning.seed)
    margins, judged = np.concatenate([behind, raw.margin(calibrate)]), pd.concat([newest, calibrate])
    calibration = fit_calibration(margins, judged["label"].to_numpy(np.float64))
    newest_labels, newest_customers = calibrate["label"].to_numpy(np.float64), calibrate["customer_id"].to_numpy()
    of_newest = calibration(raw.margin(calibrate))
    if contradicted(of_newest, newest_labels, customers=newest_customers, seed=tuning.seed):
        # The world has changed, for example by a new kind of fraud: older rows would teach the wrong level.
        margins, judged = raw.margin(calibrate), calibrate
        calibration = fit_calibration(margins, newest_labels)
    labels = judged["label"].to_numpy(np.float64)
    policy_rows = PolicyRows(
        probability=calibration(margins),
        labels=labels,
        amounts_cents=judged["amount_cents"].to_numpy(np.int64),
        customers=judged["customer_id"].to_numpy(),
        # The newest traffic is the one that people will have to look at.
        rows_per_day=len(calibrate) / len(np.unique(days(calibrate))),
    )
    chosen, report = choose_policy(
        policy_rows,
        costs=policy.costs,
        alert_budget_per_day=policy.alert_budget_per_day,
        precision_floor=policy.precision_floor,
        decides_by=policy.decides_by,
    )
    model = replace(
        raw,
        calibration=calibration,
        policy=chosen,
        lineage={
            **lineage,
            "feature_code": FeatureEngineer.code_version(),
            "label_maturity_days": feature_config.label_maturity / timedelta(days=1),
            "parameters": dict(result.parameters),
            "rounds": result.rounds,
            "history": result.history,
            "trained_from": training_set["event_time"].min().isoformat(),
            "trained_to": newest["event_time"].max().isoformat(),
            "evaluated_from": parts["test"]["event_time"].min().isoformat(),
            "evaluated_to": training_set["event_time"].max().isoformat(),
            "training_rows": len(newest),
            "training_frauds": int(newest["label"].sum()),
            "blocks": report.blocks.to_dict(),
        },
    )
    unseen = pd.concat([parts["calibrate"], parts["test"]])
    sample = unseen.sample(min(len(unseen), REFERENCE_ROWS), random_state=tuning.seed).sort_values("event_time")
    # Rows of one customer resemble each other, also in a sample.
    model = replace(model, lineage={**model.lineage, "reference_customers": effective_number(sample["customer_id"])})
    reference = model_frame(sample, config)[list(result.columns)].assign(score=model.predict(sample))
    plain = fit_plain_model(train, tune_on, config=config, lineage=lineage, seed=tuning.seed)
    return TrainedModel(
        model=replace(model, reference=reference),
        plain=plain,
        tuning=result,
        policy_report=report,
        policy_rows=policy_rows,
    )


def evaluate_model(model: FraudModel, rows: pd.DataFrame, *, policy: PolicySettings) -> Evaluation:
    """Every metric with its interval, overall and by segment, on labelled rows of `build_training_set`."""
    return evaluate(
        model.predict(rows),
        rows["label"].to_numpy(np.float64),
        amounts_cents=rows["amount_cents"].to_numpy(np.int64),
        customers=rows["customer_id"].to_numpy(),
        days=days(rows),
        policy=model.policy,
        costs=policy.costs,
        alert_budget_per_day=policy.alert_budget_per_day,
        precision_floor=policy.precision_floor,
        segments=segments(rows),
        times=microseconds(rows["event_time"]),
    )


def part(training_set: pd.DataFrame, name: PartName) -> pd.DataFrame:
    """The rows of one part, in time order."""
    return training_set[training_set["part"] == name].reset_index(drop=True)


def days(rows: pd.DataFrame) -> NDArray[np.int64]:
    """The number of the UTC day of each row since 1970, shape (n,)."""
    return microseconds(rows["event_time"]) // DAY


def segments(rows: pd.DataFrame) -> dict[str, NDArray[Any]]:
    """Segments whose groups a good average may hide: channel and size of the amount."""
    edges = [*AMOUNT_BANDS_CENTS, np.inf]
    names = [f"{low / 100:g} to {high / 100:g}" for low, high in pairwise(edges)]
    groups = {"amount": np.asarray(pd.cut(rows["amount_cents"], edges, labels=names, right=False).astype(object))}
    if rows["channel"].notna().any():
        groups["channel"] = rows["channel"].to_numpy()
    return groups


def model_frame(rows: pd.DataFrame, config: FeatureConfig) -> pd.DataFrame:
    """The encoded rows of a model, from rows of the training set: a float32 column for each of its features."""
    names = config.feature_names
    return pd.DataFrame(config.model_rows(rows, features=names), columns=pd.Index(names), copy=False)


def _labelled(rows: pd.DataFrame, config: FeatureConfig) -> LabelledRows:
    return LabelledRows(
        features=model_frame(rows, config),
        labels=rows["label"].to_numpy(np.float64),
        feature_types=config.feature_types(config.feature_names),
        customers=rows["customer_id"].to_numpy(),
    )
