"""Who is promoted, who waits in shadow, who is rejected, and what the reasons say."""

import json
from datetime import timedelta

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from fraud_pipeline.policy.block_bound import BlockEvidence
from fraud_pipeline.promotion.eligibility import Source, Sources
from fraud_pipeline.promotion.gate import gate_verdict
from fraud_pipeline.promotion.live_rows import LiveRows, live_rows
from fraud_pipeline.promotion.verdict import GateRules, GateVerdict, Outcome

ROWS = 4_000
SEVERITY: tuple[Outcome, ...] = ("promote", "shadow_only", "reject")
Floats = NDArray[np.float64]

GENERATOR = np.random.default_rng(5)
TRUTH = GENERATOR.beta(0.15, 6, ROWS)
LABELS = (GENERATOR.random(ROWS) < TRUTH).astype(np.float64)
CUSTOMERS = GENERATOR.integers(0, 800, ROWS)
AMOUNTS = GENERATOR.integers(1_00, 900_00, ROWS)
DAYS = np.arange(ROWS, dtype=np.int64) * 14 // ROWS
CHANNEL = np.where(np.arange(ROWS) % 2 == 0, "online", "chip")


def noisy(scale: float, *, seed: int = 0, rows: NDArray[np.bool_] | None = None) -> Floats:
    """The true probability blurred on the log-odds scale, and calibrated again to the same mean."""
    noise = np.random.default_rng(seed).normal(scale=scale, size=ROWS)
    logit = np.log(TRUTH + 1e-9) - np.log1p(-TRUTH) + np.where(True if rows is None else rows, noise, 0)
    blurred = 1 / (1 + np.exp(-np.clip(logit, -30, 30)))
    return np.asarray(np.sort(TRUTH)[np.argsort(np.argsort(blurred))])


def verdict(
    challenger: Floats,
    champion: Floats | None,
    labels: Floats = LABELS,
    *,
    rules: GateRules | None = None,
    incompatibility: str | None = None,
    champion_incomparable: str | None = None,
    sources: Sources | None = None,
    plain: Floats | None = None,
    decided: NDArray[np.object_] | None = None,
    block_proof: BlockEvidence | None = None,
    replicates: int = 60,
) -> GateVerdict:
    return gate_verdict(
        challenger,
        champion,
        labels,
        at_stake=AMOUNTS[: len(labels)].astype(float),
        customers=CUSTOMERS[: len(labels)],
        days=DAYS[: len(labels)],
        segments={"channel": CHANNEL[: len(labels)]},
        alert_budget_per_day=8,
        rules=rules or GateRules(),
        incompatibility=incompatibility,
        champion_incomparable=champion_incomparable,
        sources=sources,
        plain=plain,
        decided=decided,
        block_proof=block_proof,
        replicates=replicates,
    )


def outcomes(of: GateVerdict) -> dict[str, Outcome]:
    return {reason.check: reason.outcome for reason in of.reasons}


def detail(of: GateVerdict, check: str) -> str:
    return next(reason.detail for reason in of.reasons if reason.check == check)


class TestAgainstAChampionThatCannotBeCompared:
    @pytest.mark.parametrize("challenger", [TRUTH, noisy(4)], ids=["excellent", "poor"])
    def test_it_stays_whatever_the_challenger_is(self, challenger: Floats) -> None:
        result = verdict(challenger, None, champion_incomparable="Version 1 cannot be rebuilt.")
        assert result.decision == outcomes(result)["champion"] == "shadow_only"
        assert "floor" not in outcomes(result)
        assert "fraud-detect promote" in detail(result, "champion")

    def test_as_many_frauds_are_needed_as_against_any_champion(self) -> None:
        few = np.zeros(ROWS)
        few[:20] = 1
        first = verdict(TRUTH, None, few)
        assert outcomes(first)["frauds"] == "promote"
        assert outcomes(verdict(TRUTH, None, few, champion_incomparable="why"))["frauds"] == "shadow_only"


class TestSources:
    @pytest.mark.parametrize(
        ("champion", "challenger", "accepted", "outcome"),
        [
            (("a", "file"), ("a", "file, renamed"), False, "promote"),
            (("a", "file"), ("b", "file"), False, "shadow_only"),
            (("a", "file"), ("b", "file"), True, "promote"),
            (("", "file"), ("", "file"), False, "promote"),
            (("", "file"), ("", "synthetic world"), False, "shadow_only"),
            (("", "file"), ("b", "synthetic world"), False, "promote"),
        ],
        ids=["same", "other", "other, accepted", "same words", "other words", "an earlier release says less"],
    )
    def test_two_worlds_are_not_compared_unless_told_so(
        self, champion: tuple[str, str], challenger: tuple[str, str], *, accepted: bool, outcome: Outcome
    ) -> None:
        both = Sources(Source(*champion), Source(*challenger), other_accepted=accepted)
        result = verdict(TRUTH, TRUTH.copy(), sources=both)
        assert result.decision == outcomes(result)["source"] == outcome
        if outcome == "shadow_only":
            assert all(words in detail(result, "source") for words in (champion[1], challenger[1]))

    def test_a_lineage_of_an_earlier_release_has_no_identity(self) -> None:
        assert Source.of({"source": "file"}) == Source("", "file")
        assert Source.of({}) == Source("", "an unknown source")


class TestAgainstAChampion:
    def test_a_better_model_is_promoted_with_every_reason_passed(self) -> None:
        result = verdict(TRUTH, noisy(2))
        assert result.decision == "promote"
        assert all(reason.passed for reason in result.reasons)
        assert [reason.check for reason in result.reasons] == [
            "compatibility",
            "frauds",
            "calibration",
            "average_precision",
            "cost_at_budget",
            "segments",
        ]

    def test_an_identical_model_is_promoted_because_it_is_fresher(self) -> None:
        assert verdict(TRUTH, TRUTH.copy()).decision == "promote"

    def test_a_clearly_worse_model_is_rejected(self) -> None:
        result = verdict(noisy(4), TRUTH)
        assert result.decision == outcomes(result)["average_precision"] == "reject"
        assert "keep the champion" in detail(result, "average_precision")

    def test_a_slightly_worse_model_waits_in_shadow(self) -> None:
        result = verdict(noisy(0.1, seed=1), TRUTH)
        assert outcomes(result)["average_precision"] == "shadow_only"
        assert "judge again on a longer window" in detail(result, "average_precision")

    def test_a_gain_that_might_be_a_large_loss_waits_in_shadow(self) -> None:
        result = verdict(TRUTH, noisy(2), rules=GateRules(ap_tolerance=-0.9))
        assert outcomes(result)["average_precision"] == "shadow_only"

    def test_losing_the_large_amounts_waits_in_shadow(self) -> None:
        large = np.quantile(AMOUNTS, 0.7) < AMOUNTS
        result = verdict(np.where(large & (LABELS == 1), TRUTH / 50, TRUTH), TRUTH)
        assert outcomes(result)["cost_at_budget"] == "shadow_only"
        assert "large frauds" in detail(result, "cost_at_budget")

    def test_losing_one_segment_waits_in_shadow_and_names_it(self) -> None:
        online = CHANNEL == "online"
        challenger, champion = noisy(4, rows=online), noisy(5, rows=~online)
        result = verdict(challenger, champion, rules=GateRules(segment_ap_tolerance=0.05))
        assert outcomes(result)["average_precision"] == "promote"
        assert outcomes(result)["segments"] == result.decision == "shadow_only"
        assert "channel online (-0." in detail(result, "segments")
        assert "chip" not in detail(result, "segments")

    def test_segments_with_few_frauds_are_not_judged(self) -> None:
        result = verdict(noisy(4), TRUTH, rules=GateRules(min_frauds_per_segment=10_000))
        assert outcomes(result)["segments"] == "promote"
        assert "None of 0 segments" in detail(result, "segments")

    def test_few_frauds_in_the_window_wait_in_shadow(self) -> None:
        result = verdict(TRUTH, noisy(2), rules=GateRules(min_frauds=int(LABELS.sum()) + 1))
        assert (result.decision, outcomes(result)["frauds"]) == ("shadow_only", "shadow_only")

    def test_probabilities_that_mean_nothing_wait_in_shadow(self) -> None:
        result = verdict(np.sqrt(TRUTH), noisy(2))
        assert (result.decision, outcomes(result)["calibration"]) == ("shadow_only", "shadow_only")
        assert "calibrate on newer data" in detail(result, "calibration")

    def test_a_calibration_that_few_frauds_cannot_show_waits_only_beside_one_that_is_shown(self) -> None:
        frauds = np.flatnonzero(LABELS)[::12]  # a dozen customers
        few = np.zeros(ROWS)
        few[frauds] = 1
        rules = GateRules(min_frauds=5, max_miscalibration=1.2)
        right = np.full(ROWS, len(frauds) / ROWS)
        for champion in (None, right):
            result = verdict(right, champion, few, rules=rules)
            assert outcomes(result)["calibration"] == "promote"
            assert "not shown to lie within a factor of 1.2" in detail(result, "calibration")
        farther = verdict(right * 1.3, right, few, rules=rules)
        assert outcomes(farther)["calibration"] == "shadow_only"

    @pytest.mark.parametrize(("below", "outcome"), [(0.0, "promote"), (0.5, "shadow_only")])
    def test_blocks_that_contradict_their_proof_wait_in_shadow(self, below: float, outcome: Outcome) -> None:
        proof = BlockEvidence(0.5, looked_at=20, rows=80, frauds=79, owners=80, lower_bound=0.9, floor=0.85)
        wrong = np.random.default_rng(0).random(ROWS) < below * LABELS.mean()
        decided = np.where((LABELS == 1) | wrong, "block", "allow").astype(object)
        result = verdict(TRUTH, noisy(2), decided=decided, block_proof=proof)
        assert outcomes(result)["blocks"] == result.decision == outcome
        assert str(proof) in detail(result, "blocks")

    def test_a_model_that_blocks_nothing_says_why(self) -> None:
        proof = BlockEvidence(None, looked_at=20, rows=40, frauds=39, owners=9, lower_bound=0.5, floor=0.85)
        result = verdict(TRUTH, None, decided=np.full(ROWS, "allow", object), block_proof=proof)
        assert result.decision == "promote"
        assert "blocks nothing, because" in detail(result, "blocks")

    def test_features_that_cannot_be_computed_reject_even_the_best(self) -> None:
        result = verdict(TRUTH, noisy(2), incompatibility="Feature mood_24h is unknown here.")
        assert result.decision == "reject"
        assert detail(result, "compatibility").startswith("Feature mood_24h is unknown here. Train the model again")


class TestWithoutAChampion:
    def test_a_model_well_above_chance_is_promoted(self) -> None:
        result = verdict(TRUTH, None)
        assert result.decision == "promote"
        assert list(outcomes(result)) == ["compatibility", "frauds", "calibration", "floor"]

    def test_chance_is_rejected(self) -> None:
        result = verdict(np.full(ROWS, LABELS.mean()), None)
        assert result.decision == outcomes(result)["floor"] == "reject"

    def test_a_doubtful_model_waits_in_shadow(self) -> None:
        figures = next(reason for reason in verdict(TRUTH, None).reasons if reason.check == "floor").figures
        between, base = (figures["average_precision"] + figures["low"]) / 2, figures["base_rate"]
        times = between / (1 - between) * (1 - base) / base
        assert verdict(TRUTH, None, rules=GateRules(min_odds_without_champion=times)).decision == "shadow_only"

    def test_one_lucky_fraud_is_not_enough(self) -> None:
        labels = np.zeros(ROWS)
        labels[np.argmax(TRUTH)] = 1
        assert outcomes(verdict(TRUTH, None, labels))["frauds"] == "shadow_only"


class TestFloorAtAnyBaseRate:
    """A floor of three times the base rate cannot be passed above 33 % fraud, however good a model is."""

    def judged(self, base_rate: float, *, separation: float) -> GateVerdict:
        generator = np.random.default_rng(0)
        labels = (generator.random(ROWS) < base_rate).astype(np.float64)
        margin = generator.normal(size=ROWS) + separation * labels
        # The probability that follows from two normal distributions of equal width.
        odds = base_rate / (1 - base_rate) * np.exp(separation * margin - separation**2 / 2)
        return verdict(odds / (1 + odds), None, labels)

    @pytest.mark.parametrize("base_rate", [0.01, 0.1, 0.34, 0.5, 0.9])
    def test_a_good_model_passes_and_a_useless_one_never_does(self, base_rate: float) -> None:
        good, useless = (self.judged(base_rate, separation=separation) for separation in (2.5, 0.0))
        assert good.decision == "promote", good.finding
        assert outcomes(useless)["floor"] == useless.decision == "reject"
        assert f"{LABELS.mean():.2%}" not in detail(good, "floor")
        assert "the odds of a right alert are 3 times those of a random row" in detail(useless, "floor")

    def test_for_rare_fraud_it_is_three_times_the_base_rate(self) -> None:
        figures = next(reason for reason in self.judged(0.01, separation=2).reasons if reason.check == "floor").figures
        assert figures["floor"] == pytest.approx(3 * figures["base_rate"], rel=0.03)


class TestAgainstThePlainModel:
    """What a user could have in twenty lines is not promoted as ours, first model or not."""

    @pytest.mark.parametrize("champion", [None, noisy(4)], ids=["first", "with a champion"])
    def test_a_model_that_is_worse_beyond_doubt_is_rejected_with_figures(self, champion: Floats | None) -> None:
        assert verdict(noisy(1.5), champion).decision == "promote"
        result = verdict(noisy(1.5), champion, plain=TRUTH)
        assert result.decision == outcomes(result)["plain"] == "reject"
        figures = next(reason for reason in result.reasons if reason.check == "plain").figures
        sentence = detail(result, "plain")
        assert figures["average_precision"] < figures["plain"]
        assert figures["gain"] == pytest.approx(figures["average_precision"] - figures["plain"])
        assert figures["high"] < 0
        expected = [f"{figures[name]:.3f}" for name in ("average_precision", "plain", "gain", "low", "high")]
        assert all(figure in sentence for figure in expected)
        assert "worse beyond doubt. See that the columns of customer" in sentence
        assert result.finding == f"plain: {sentence}"

    def test_the_same_ranking_is_level(self) -> None:
        result = verdict(TRUTH, None, plain=TRUTH**2)
        assert result.decision == outcomes(result)["plain"] == "promote"
        assert detail(result, "plain").endswith("The difference is +0.000 (+0.000 to +0.000): level.")

    def test_a_better_model_says_what_it_adds(self) -> None:
        result = verdict(TRUTH, None, plain=noisy(1.5))
        assert result.decision == "promote"
        assert detail(result, "plain").endswith("history and search add that much.")

    def missing(self, *, missed: int, of: int) -> GateVerdict:
        """All rows of `of` customers are frauds. Plain ranks them first; ours misses those of `missed` customers."""
        labels = (of > CUSTOMERS).astype(np.float64)
        plain = 0.004 * np.random.default_rng(4).random(ROWS) + 0.9 * labels
        return verdict(np.where(missed > CUSTOMERS, 0.0, plain), None, labels, plain=plain)

    def test_a_loss_that_may_be_chance_waits_in_shadow(self) -> None:
        result = self.missing(missed=1, of=8)
        assert outcomes(result)["plain"] == "shadow_only"
        assert "perhaps worse, perhaps by chance. See that" in detail(result, "plain")

    def test_less_than_half_of_what_plain_gains_is_rejected_even_if_it_may_be_chance(self) -> None:
        result = self.missing(missed=2, of=3)
        figures = next(reason for reason in result.reasons if reason.check == "plain").figures
        assert figures["high"] == pytest.approx(0)
        assert outcomes(result)["plain"] == "reject"
        assert "less than 50% of what plain gains" in detail(result, "plain")

    def test_too_few_frauds_reject_nobody(self) -> None:
        needed = int(LABELS.sum()) + 1
        rules = GateRules(min_frauds_without_champion=needed)
        result = verdict(noisy(1.5), None, plain=TRUTH, rules=rules)
        assert result.decision == outcomes(result)["plain"] == "shadow_only"
        assert f"{ROWS:,} rows of {len(np.unique(CUSTOMERS)):,} customers" in detail(result, "frauds")

    def test_scores_that_are_missing_are_refused(self) -> None:
        with pytest.raises(ValueError, match="finite scores"):
            verdict(TRUTH, None, plain=np.where(np.arange(ROWS) == 3, np.nan, TRUTH))


class TestWithoutEvidence:
    @pytest.mark.parametrize("champion", [None, TRUTH])
    def test_no_fraud_at_all_promotes_nobody(self, champion: Floats | None) -> None:
        assert verdict(TRUTH, champion, np.zeros(ROWS)).decision == "shadow_only"

    @pytest.mark.parametrize("champion", [None, TRUTH[:0]])
    def test_no_rows_promote_nobody(self, champion: Floats | None) -> None:
        assert verdict(TRUTH[:0], champion, LABELS[:0]).decision == "shadow_only"

    def test_missing_scores_and_unknown_labels_are_refused(self) -> None:
        holes = np.where(np.arange(ROWS) == 3, np.nan, LABELS)
        for challenger, champion, labels in ((holes, TRUTH, LABELS), (TRUTH, holes, LABELS), (TRUTH, TRUTH, holes)):
            with pytest.raises(ValueError, match="finite scores and a known label"):
                verdict(challenger, champion, labels)


class TestProperties:
    @settings(max_examples=25)
    @given(
        seed=st.integers(0, 1_000),
        noise=st.sampled_from([0.0, 0.1, 0.5, 2.0]),
        against=st.sampled_from([None, 0.0, 0.3, 2.0]),
        lift=st.floats(0.0, 0.3),
    )
    def test_ranking_frauds_higher_never_makes_a_verdict_stricter_on_ranking(
        self, seed: int, noise: float, against: float | None, lift: float
    ) -> None:
        champion = None if against is None else noisy(against, seed=seed + 1)
        before = noisy(noise, seed=seed)
        results = [verdict(scores, champion, replicates=20) for scores in (before, before + lift * LABELS)]
        for check in ("average_precision", "floor", "cost_at_budget"):
            was, now = (SEVERITY.index(outcomes(result).get(check, "promote")) for result in results)
            assert now <= was
        assert (results[0].decision, results[1].decision) != ("promote", "reject")

    @settings(max_examples=15)
    @given(st.integers(0, 1_000), st.sampled_from([0.1, 1.0]))
    def test_two_models_are_never_both_better_than_each_other(self, seed: int, noise: float) -> None:
        first, second = noisy(noise, seed=seed), noisy(noise, seed=seed + 1)
        checks = [
            outcomes(verdict(*pair, replicates=20))["average_precision"] for pair in ((first, second), (second, first))
        ]
        assert checks != ["promote", "promote"]

    @settings(max_examples=10)
    @given(st.floats(0.1, 3.0))
    def test_the_verdict_is_the_strictest_of_its_reasons(self, noise: float) -> None:
        result = verdict(noisy(noise), noisy(1), replicates=20)
        assert SEVERITY.index(result.decision) == max(SEVERITY.index(reason.outcome) for reason in result.reasons)


class TestRecord:
    def test_survives_strict_json_also_where_undefined(self) -> None:
        result = verdict(TRUTH, TRUTH, np.zeros(ROWS))
        written = json.loads(json.dumps(result.to_dict(), allow_nan=False))
        assert written["decision"] == "shadow_only"
        gain = next(reason for reason in written["reasons"] if reason["check"] == "average_precision")
        assert gain["figures"]["gain"] is None

    def test_markdown_shows_the_verdict_and_every_reason(self) -> None:
        result = verdict(noisy(4), TRUTH)
        text = result.to_markdown()
        assert text.startswith("**reject**")
        assert all(f"| {reason.check} | {reason.outcome} | {reason.detail} |" in text for reason in result.reasons)


class TestHiddenLabels:
    """Half of the frauds are of a kind that the champion blocks, and what is blocked is not reported."""

    def shadowed(self, *, share: float = 0.0) -> tuple[pd.DataFrame, pd.DataFrame]:
        """What both scored, and what is known; the challenger lets that kind through."""
        generator, count = np.random.default_rng(0), 20_000
        truth = generator.random(count) < 0.02
        known = truth & (generator.random(count) < 0.5)
        legitimate, doubtful = generator.beta(1, 60, count), generator.beta(2, 6, count)
        champion = np.where(known, 0.95, np.where(truth, doubtful, legitimate))
        held_out = known & (generator.random(count) < share)
        rows = pd.DataFrame(
            {
                "transaction_id": [f"t-{number}" for number in range(count)],
                "event_time": pd.Timestamp("2026-01-01", tz="UTC") + pd.to_timedelta(np.arange(count), unit="min"),
                "customer_id": np.arange(count) // 5,
                "amount_cents": 10_000,
                "champion_decision": np.select([held_out, champion > 0.9], ["review", "block"], "allow"),
                "challenger_decision": np.where(known, "allow", np.where(champion > 0.9, "block", "allow")),
                "champion_probability": champion,
                "challenger_probability": np.where(known, legitimate, champion),
                "held_out": held_out,
                "share": np.where(known & (share > 0), share, np.nan),
            }
        )
        reports = rows.loc[truth & (~known | held_out), ["transaction_id", "event_time"]].assign(is_fraud=True)
        return rows, reports.assign(reported_at=reports["event_time"])

    def live(self, rows: pd.DataFrame, reports: pd.DataFrame) -> LiveRows:
        live = live_rows(
            rows,
            reports,
            as_of=pd.Timestamp("2026-06-01", tz="UTC"),
            label_maturity=timedelta(days=21),
            rules=GateRules(),
        )
        assert live is not None
        return live

    def judged(self, live: LiveRows, *, same: bool = False) -> GateVerdict:
        """The verdict on the challenger, or on one that is the same as the champion."""
        rows, own = live.rows, "champion" if same else "challenger"
        return gate_verdict(
            rows[f"{own}_probability"].to_numpy(),
            rows["champion_probability"].to_numpy(),
            rows["label"].to_numpy(np.float64),
            at_stake=rows["amount_cents"].to_numpy(np.float64),
            customers=rows["customer_id"].to_numpy(),
            days=np.arange(len(rows)) * 14 // len(rows),
            alert_budget_per_day=30,
            rules=GateRules(max_miscalibration=50),
            row_weights=rows["weight"].to_numpy(np.float64),
            hidden=live.hidden[f"{own}_decision"].to_numpy(object),
            replicates=60,
        )

    def test_who_misses_what_the_champion_blocks_is_not_promoted(self) -> None:
        live = self.live(*self.shadowed())
        assert (live.hidden["champion_decision"] == "block").all()
        assert f"{len(live.hidden)} more were blocked and never reported" in str(live)
        assert not set(live.hidden["transaction_id"]) & set(live.rows["transaction_id"])
        judged = self.judged(live)
        assert judged.decision == outcomes(judged)["blocked"] == "shadow_only"
        assert "let 100%" in detail(judged, "blocked")
        assert self.judged(live, same=True).decision == "promote"

    def test_a_report_or_a_verdict_makes_a_blocked_row_one_like_others(self) -> None:
        rows, reports = self.shadowed()
        blocked = rows.loc[rows["champion_decision"] == "block", ["transaction_id", "event_time"]]
        new_reports = blocked.assign(is_fraud=np.arange(len(blocked)) > 2, reported_at=blocked["event_time"])
        live = self.live(rows, pd.concat([reports, new_reports]))
        assert live.hidden.empty
        assert len(live.rows) == len(rows)
        judged = self.judged(live)
        assert outcomes(judged)["average_precision"] == "reject"
        assert "blocked" not in outcomes(judged)

    def test_those_held_out_count_for_what_was_blocked(self) -> None:
        rows, reports = self.shadowed(share=0.2)
        live = self.live(rows, reports)
        assert live.hidden.empty
        assert live.held_out == rows["held_out"].sum()
        assert live.rows["weight"].sum() == pytest.approx(len(rows))
        assert "held out count for what was blocked" in str(live)
        assert outcomes(self.judged(live))["average_precision"] == "reject"
        assert self.judged(live, same=True).decision == "promote"
