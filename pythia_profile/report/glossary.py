"""The words of the report, each with its meaning: shown on hover, and as a list."""

__all__ = ["GLOSSARY"]

GLOSSARY = {
    "row": "the tokens that the trainer read as one sequence; the unit of everything here.",
    "cohort": "the rows that were read between two scored checkpoints, named by the later one.",
    "checkpoint": "weights saved after so many optimizer steps.",
    "never-treated": "rows that no step reads; the controls.",
    "ATT(g, c)": "the effect of reading the rows of cohort g on their outcome at checkpoint c, on "
    "average over these rows; above 0 means remembered, where higher outcomes are better.",
    "event time": "optimizer steps since the cohort: checkpoint minus cohort.",
    "base": "the last scored checkpoint before the cohort, from which changes are measured; the "
    "effect there is 0 by construction.",
    "at once": "the instantaneous effect: at the first checkpoint that has read the cohort.",
    "later": "the persistent effect: mean over a cohort's later checkpoints, then over cohorts.",
    "at the end": "the residual effect: at the last checkpoint.",
    "kept": "what is left at the end, as a share of the effect at once.",
    "p before reading": "p-value of the joint test that nothing happens before rows are read.",
    "± and se": "one standard error, which counts that cohorts share their control rows.",
    "simultaneous band": "holds all cells at once with the stated probability; one cell's interval "
    "is narrower.",
    "placebo test": "a test of effects before treatment, where there can be none.",
    "breakdown value M̄": "how many times steeper than before treatment the difference in trends "
    "would have to be for the effect's interval to reach 0.",
    "reliability": "the share of the variance of a size's profile that is not noise.",
    "counterfactual retraining": "training again from the checkpoint before a cohort, on other "
    "rows: the true effect.",
}
"""Term -> meaning, in the order of the list."""
